package main

import (
	"net/http"

	"github.com/spf13/cobra"
)

// files serves the files of a directory over HTTP, as they are when they are asked for.
func files() *cobra.Command {
	var addr string
	cmd := &cobra.Command{
		Use: "files DIRECTORY", Short: "HTTP: the files of a directory", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server := &http.Server{Addr: addr, Handler: http.FileServer(http.Dir(args[0]))}
			go func() {
				<-cmd.Context().Done()
				_ = server.Close()
			}()
			if err := server.ListenAndServe(); cmd.Context().Err() == nil {
				return err
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&addr, "listen", ":8080", "address")
	return cmd
}

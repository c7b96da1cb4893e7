package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/wire/script"
)

// play plays ends of connections as scripts say: see test/wire/script.
func play() *cobra.Command {
	return &cobra.Command{
		Use: "play", Args: cobra.NoArgs,
		Short: "Play scripts: take orders from standard input until it ends, print what the ends of connections see, as JSON lines",
		RunE: func(*cobra.Command, []string) error {
			return script.Play(os.Stdin, os.Stdout)
		},
	}
}

package main

import (
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/underlane/underlane/test/demo/banner"
	"github.com/underlane/underlane/test/demo/emoji"
	pb "github.com/underlane/underlane/test/demo/proto"
	"github.com/underlane/underlane/test/demo/serve"
	"github.com/underlane/underlane/test/demo/voting"
	"github.com/underlane/underlane/test/demo/web"
)

// serverCommand makes a subcommand with the flag --listen.
func serverCommand(name, short, listen string, run func(cmd *cobra.Command, listen string) error) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs}
	flag := cmd.Flags().String("listen", listen, "TCP address; without a host: IPv6 and IPv4")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return run(cmd, *flag) }
	return cmd
}

func webCommand() *cobra.Command {
	var emojiAddr, votingAddr, bannerAddr string
	cmd := serverCommand("web", "Serve the page and its API", ":8080", func(cmd *cobra.Command, listen string) error {
		emojiConn, err := serve.Dial(emojiAddr)
		if err != nil {
			return err
		}
		defer emojiConn.Close()
		votingConn, err := serve.Dial(votingAddr)
		if err != nil {
			return err
		}
		defer votingConn.Close()
		ln, err := serve.Listen(cmd.Context(), listen)
		if err != nil {
			return err
		}
		return serve.HTTP(cmd.Context(), ln, web.New(emojiConn, votingConn, bannerAddr).Handler())
	})
	cmd.Flags().StringVar(&emojiAddr, "emoji", env("EMOJI_ADDR", "emoji:8080"), "address of the emoji service ($EMOJI_ADDR)")
	cmd.Flags().StringVar(&votingAddr, "voting", env("VOTING_ADDR", "voting:8080"), "address of the voting service ($VOTING_ADDR)")
	cmd.Flags().StringVar(&bannerAddr, "banner", env("BANNER_ADDR", ""), "address of the banner service, if there is one ($BANNER_ADDR)")
	return cmd
}

func emojiCommand() *cobra.Command {
	return serverCommand("emoji", "Serve the list of emoji over gRPC", ":8080", func(cmd *cobra.Command, listen string) error {
		srv := grpc.NewServer()
		pb.RegisterEmojiServiceServer(srv, emoji.Server{})
		return serveGRPC(cmd, listen, srv)
	})
}

func votingCommand() *cobra.Command {
	return serverCommand("voting", "Count votes over gRPC", ":8080", func(cmd *cobra.Command, listen string) error {
		srv := grpc.NewServer()
		voting.NewServer().Register(srv)
		return serveGRPC(cmd, listen, srv)
	})
}

func serveGRPC(cmd *cobra.Command, listen string, srv *grpc.Server) error {
	ln, err := serve.Listen(cmd.Context(), listen)
	if err != nil {
		return err
	}
	return serve.GRPC(cmd.Context(), ln, srv)
}

func bannerCommand() *cobra.Command {
	return serverCommand("banner", "Greet like a MySQL server: speak first", ":3306", func(cmd *cobra.Command, listen string) error {
		ln, err := serve.Listen(cmd.Context(), listen)
		if err != nil {
			return err
		}
		return banner.Serve(cmd.Context(), ln)
	})
}

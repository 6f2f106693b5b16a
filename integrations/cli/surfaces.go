package cli

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/integrations/api"
	"github.com/gumshoe-ai/gumshoe/integrations/slack"
)

func newAPI(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "api", Short: "The HTTP API of gumshoe serve", Args: argCount(0, 0, "a subcommand"), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(&cobra.Command{
		Use: "openapi", Short: "Print the OpenAPI 3.1 document", Args: argCount(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			_, err := g.streams.Out.Write(api.OpenAPI())
			return err
		},
	})
	return cmd
}

func newSlack(g *globals) *cobra.Command {
	var base string
	cmd := &cobra.Command{Use: "slack", Short: "The Slack app of gumshoe serve", Args: argCount(0, 0, "a subcommand"), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	manifest := &cobra.Command{
		Use: "manifest", Short: "Print the manifest of the Slack app, with the scopes that are used and no others",
		Long: "Prints the manifest to create the app with (api.slack.com/apps, From a manifest). Without --base-url the app\n" +
			"uses Socket Mode, which needs no address that Slack can reach.",
		Args: argCount(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			raw, err := slack.Manifest(base)
			if err != nil {
				return usage(err)
			}
			_, err = g.streams.Out.Write(raw)
			return err
		},
	}
	manifest.Flags().StringVar(&base, "base-url", "", "`URL` at which Slack reaches the server, for an app that gets its events by HTTP")
	cmd.AddCommand(manifest)
	return cmd
}

func newMCP(g *globals) *cobra.Command {
	var src sourceFlags
	var demo, addr string
	cmd := &cobra.Command{
		Use:   "mcp",
		Short: "Serve the Model Context Protocol: reading tools, investigations, evidence; never an approval",
		Long: "Without --http it speaks over standard input and output, for a client that starts it. With --http it serves\n" +
			"/mcp as gumshoe serve does, under the same authentication.",
		Args: argCount(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if addr != "" {
				return g.serve(cmd.Context(), serveFlags{src: src, listen: addr, demo: demo})
			}
			if g.streams.InTTY {
				return usage(errors.New("mcp speaks a protocol over standard input and output; start it from an MCP client, or use --http ADDR"))
			}
			cfg, err := g.load(src)
			if err != nil {
				return err
			}
			if demo != "" {
				demo = demoCase(demo)
			}
			log := slog.NewTextHandler(g.streams.Err, &slog.HandlerOptions{Level: slog.LevelWarn})
			s, stop, err := openService(cmd.Context(), cfg, demo, log)
			if err != nil {
				return err
			}
			defer stop()
			m, err := s.MCP(cfg.Server.MCP, nil, slog.New(log))
			if err != nil {
				return err
			}
			return m.Serve(cmd.Context(), g.streams.In, g.streams.Out)
		},
	}
	src.add(cmd)
	cmd.Flags().StringVar(&addr, "http", "", "serve on `HOST:PORT` in place of standard input and output")
	cmd.Flags().StringVar(&demo, "demo", "", "serve the recorded cluster of a `CASE`")
	return cmd
}

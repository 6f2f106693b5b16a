package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

// fitFlags are what gumshoe fit is told beside the model.
type fitFlags struct {
	src                 sourceFlags
	gpu, engine, args   string
	config, prices      string
	output              string
	memory, count       int
	context             int
	weights, throughput float64
	fetch, cluster      bool
}

func newFit(g *globals) *cobra.Command {
	var f fitFlags
	cmd := &cobra.Command{
		Use:   "fit MODEL",
		Short: "Say whether a model fits on GPUs, and where it is cheapest to run",
		Long: "fit says whether a model fits on GPUs under an engine's settings: fits, tight or no, by how many bytes,\n" +
			"the largest context and concurrency, what would make it fit, and where it could run.\n\n" +
			"It needs no cluster and no network: dimensions come from a catalogue, or from the model's config.json\n" +
			"(--config here names that file; gumshoe's own configuration comes from GUMSHOE_CONFIG).",
		Example: "  gumshoe fit Qwen/Qwen3-32B --gpu H100\n" +
			"  gumshoe fit llama-3.3-70b --gpu A100-80GB --count 4 --context 32768\n" +
			"  gumshoe fit my-org/my-model --config ./config.json --gpu L40S --engine-args \"--max-model-len 16384 --kv-cache-dtype fp8\"\n" +
			"  gumshoe fit openai/gpt-oss-120b --cluster",
		Args: argCount(1, 1, "one MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.output != "text" && f.output != "json" {
				return usage(fmt.Errorf("--output %q is neither text nor json", f.output))
			}
			for name, v := range map[string]int{"count": f.count, "context": f.context, "gpu-memory-mib": f.memory} {
				if cmd.Flags().Changed(name) && v < 1 {
					return usage(fmt.Errorf("--%s %d: a positive number is expected", name, v))
				}
			}
			ask, err := f.ask(args[0], g)
			if err != nil {
				return err
			}
			cfg, err := app.LoadConfig(g.streams.Getenv("GUMSHOE_CONFIG"), g.streams.Getenv)
			if err != nil {
				return usage(err)
			}
			f.src.apply(&cfg)
			if err := cfg.Validate(); err != nil {
				return usage(err)
			}
			answer, err := app.Fit(cmd.Context(), cfg, ask)
			if err != nil {
				return err
			}
			return printFit(g.streams.Out, answer, f.output)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.gpu, "gpu", "", "`GPU` type, for example H100, A100-80GB, or a node's label; without it every type is tried")
	fl.IntVar(&f.memory, "gpu-memory-mib", 0, "memory of one GPU in `MIB` as nvidia-smi reports it, for a type not in the table")
	fl.IntVar(&f.count, "count", 0, "how many GPUs there are (`N`); without it the smallest number that fits is found")
	fl.IntVar(&f.context, "context", 0, "longest sequence in tokens (`N`)")
	fl.StringVar(&f.engine, "engine", "", "`ENGINE`: vllm, sglang or tensorrt-llm (default vllm, or what --engine-args start)")
	fl.StringVar(&f.args, "engine-args", "", "the server's `FLAGS`, or its whole command line")
	fl.StringVar(&f.config, "config", "", "the model's config.json (`FILE`); a model.safetensors.index.json beside it gives the exact size")
	fl.Float64Var(&f.weights, "weights-gib", 0, "measured size of the weights in `GIB`, for example from the engine's log")
	fl.StringVar(&f.prices, "prices", "", "price `FILE` (YAML) laid over the table of prices")
	fl.Float64Var(&f.throughput, "tokens-per-second", 0, "measured output of one instance (`N`), for the cost of a million tokens")
	fl.BoolVar(&f.fetch, "fetch", false, "read config.json from the hub (HF_ENDPOINT, HF_TOKEN); the only thing here that uses the network")
	fl.BoolVar(&f.cluster, "cluster", false, "look for free GPUs on the cluster of the kubeconfig too")
	fl.StringVar(&f.src.context, "kube-context", "", "kubeconfig `CONTEXT`; implies --cluster")
	fl.StringVar(&f.src.kubeconfig, "kubeconfig", "", "kubeconfig `FILE`; implies --cluster")
	fl.StringVar(&f.src.bundle, "bundle", "", "look for free GPUs in a captured bundle (`DIR` or .tar.zst)")
	fl.StringVarP(&f.output, "output", "o", "text", "`FORM`: text or json")
	return cmd
}

// ask reads the files that the flags name.
func (f fitFlags) ask(name string, g *globals) (app.FitAsk, error) {
	var a app.FitAsk
	a.Model, a.GPU, a.GPUMemoryMiB, a.Count, a.Context = name, f.gpu, f.memory, f.count, f.context
	a.Engine, a.EngineArgs, a.WeightsGiB, a.TokensPerSecond = f.engine, f.args, f.weights, f.throughput
	a.Cluster = f.cluster || f.src.context != "" || f.src.kubeconfig != "" || f.src.bundle != ""
	if f.fetch {
		if f.config != "" {
			return a, usage(errors.New("--config and --fetch exclude each other: both say where config.json comes from"))
		}
		a.Fetch, a.Hub, a.HubToken = true, g.streams.Getenv("HF_ENDPOINT"), g.streams.Getenv("HF_TOKEN")
	}
	if f.config != "" {
		raw, err := readBounded(f.config, 4<<20)
		if err != nil {
			return a, usage(fmt.Errorf("--config: %w", err))
		}
		a.Config = string(raw)
		if a.WeightsGiB == 0 {
			if index, err := readBounded(filepath.Join(filepath.Dir(f.config), "model.safetensors.index.json"), 8<<20); err == nil {
				a.WeightsGiB = app.WeightsGiB(index)
			}
		}
	}
	if f.prices != "" {
		raw, err := readBounded(f.prices, 4<<20)
		if err != nil {
			return a, usage(fmt.Errorf("--prices: %w", err))
		}
		a.Prices, a.PricesName = raw, f.prices
	}
	return a, nil
}

// readBounded reads a regular file of at most so many bytes.
func readBounded(name string, most int64) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", name, errors.Unwrap(err))
	}
	if st.IsDir() {
		return nil, fmt.Errorf("%s is a directory; name the file in it", name)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", name, errors.Unwrap(err))
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", name, err)
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return raw, nil
}

// shownPlaces is how many places of each sort are printed.
const shownPlaces = 3

func printFit(w io.Writer, a app.FitAnswer, output string) error {
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(a)
	}
	// A name may come from a file or a hub: only what is visible is printed.
	lines := strings.Split(a.Text()+"\n"+a.Placement.Text(shownPlaces), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(cleanLine(l), " ")
	}
	_, err := fmt.Fprintln(w, strings.Trim(strings.Join(lines, "\n"), "\n"))
	return err
}

// cleanLine drops control characters and keeps the columns.
func cleanLine(l string) string {
	label, rest := l[:min(len(l), 10)], l[min(len(l), 10):]
	if strings.TrimSpace(rest) == "" {
		return l
	}
	for _, r := range l {
		if r < ' ' || r == 0x7f {
			return label + render.Clean(rest)
		}
	}
	return l
}

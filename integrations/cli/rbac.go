package cli

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

func newRBAC(g *globals) *cobra.Command {
	var o app.RBACOptions
	var output string
	var admission bool
	cmd := &cobra.Command{
		Use: "rbac", Short: "Print the least rights that gumshoe needs, reader and executor apart", Args: argCount(0, 0, "no arguments"),
		Long: "Prints a Namespace, and for the identity that reads and the one that executes plans a ServiceAccount, a ClusterRole\n" +
			"and a binding each. What the reader gets is what the toolsets say they read; what the executor gets is what the\n" +
			"actions say they need. With --admission it prints ValidatingAdmissionPolicies instead: with them the API server\n" +
			"itself refuses what a plan may not do.",
		Example: "  gumshoe rbac | kubectl apply -f -\n" +
			"  gumshoe rbac --actions cordon,uncordon --toolsets kube,dra\n" +
			"  gumshoe rbac --admission | kubectl apply -f -",
		RunE: func(*cobra.Command, []string) error {
			if output != "yaml" {
				return usage(fmt.Errorf("--output %q: only yaml is there", output))
			}
			if !admission {
				grants, err := app.RBAC(o)
				if err != nil {
					return usage(err)
				}
				return g.printObjects(grants.Objects, grants.Notes)
			}
			cfg, err := g.load(sourceFlags{})
			if err != nil {
				return err
			}
			p, err := app.LoadPolicy(cfg)
			if err != nil {
				return err
			}
			objects, err := app.Admission(o, p)
			if err != nil {
				return usage(err)
			}
			return g.printObjects(objects, nil)
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&o.Toolsets, "toolsets", nil, "only for the toolsets `NAMES`, with commas between (default: all)")
	fl.StringSliceVar(&o.Actions, "actions", nil, "only for the actions `NAMES`, with commas between (default: all)")
	fl.StringVarP(&o.Namespace, "namespace", "n", app.DefaultNamespace, "`NAMESPACE` of the identities")
	fl.BoolVar(&o.NoExecutor, "read-only", false, "leave out the identity that writes")
	fl.BoolVar(&o.Probes, "probes", false, "let the reader touch workloads where a tool asks first")
	fl.BoolVar(&o.Secrets, "secrets", false, "let the reader get Secrets: Kubernetes has no right to their metadata alone")
	fl.BoolVar(&admission, "admission", false, "print admission policies for the identities")
	fl.StringVarP(&output, "output", "o", "yaml", "`FORM`: yaml")
	return cmd
}

// printObjects writes a stream of YAML documents with notes before it.
func (g *globals) printObjects(objects []runtime.Object, notes []string) error {
	var b bytes.Buffer
	for _, n := range notes {
		fmt.Fprintln(&b, "# "+strings.Join(strings.Fields(n), " "))
	}
	for i, o := range objects {
		raw, err := yaml.Marshal(o)
		if err != nil {
			return err
		}
		if i > 0 || len(notes) > 0 {
			b.WriteString("---\n")
		}
		b.Write(raw)
	}
	_, err := g.streams.Out.Write(b.Bytes())
	return err
}

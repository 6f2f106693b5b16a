package hubble

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cilium/cilium/api/v1/flow"
)

// Flow is one flow in plain words. Fields that the server left out are empty:
// absence is not a fact.
type Flow struct {
	Time time.Time
	// Verdict is FORWARDED, DROPPED, ERROR, AUDIT, REDIRECTED, TRACED, TRANSLATED or
	// VERDICT_UNKNOWN.
	Verdict string
	// Drop is the reason by its name in the API, such as POLICY_DENIED; a number that
	// this build does not know is written as DROP_n.
	Drop                string
	Source, Destination End
	// Proto is TCP, UDP, SCTP, ICMPv4, ICMPv6 or empty.
	Proto string
	// Port and SourcePort; 0 where there is none.
	Port, SourcePort uint32
	// Direction is INGRESS, EGRESS or empty.
	Direction string
	// Reply: "yes", "no", or empty where the server does not know.
	Reply string
	// DeniedBy and AllowedBy are the policies that decided, if the server correlates.
	DeniedBy, AllowedBy []Policy
	// HTTPCode and DNSCode are those of a layer 7 response; DNSCode -1 means none.
	HTTPCode uint32
	DNSCode  int
	DNSQuery string
	// AuthType is SPIRE where a policy verdict speaks of mutual authentication.
	AuthType string
	// L7 says that the record is of the proxy.
	L7 bool
	// Count is how many flows an aggregated record stands for, else 1.
	Count uint64
	Node  string
	SYN   bool
	RST   bool
}

// End is one end of a flow.
type End struct {
	Namespace, Pod, Cluster string
	Identity                uint32
	// Labels with source, "k8s:app=router".
	Labels []string
	IP     string
	// Names are DNS names of the address.
	Names []string
	// Service is "namespace/name".
	Service string
}

// Reserved gives the name of a reserved identity, such as "world"; empty for pods.
func (e End) Reserved() string {
	for _, l := range e.Labels {
		if name, ok := strings.CutPrefix(l, "reserved:"); ok {
			return name
		}
	}
	return ""
}

// String names the end as far as it is known.
func (e End) String() string {
	switch {
	case e.Pod != "":
		return e.Namespace + "/" + e.Pod
	case len(e.Names) > 0:
		return strings.TrimSuffix(e.Names[0], ".")
	case e.Reserved() != "" && e.IP != "":
		return e.Reserved() + " " + e.IP
	case e.Reserved() != "":
		return e.Reserved()
	case e.IP != "":
		return e.IP
	case e.Identity != 0:
		return fmt.Sprintf("identity %d", e.Identity)
	}
	return "unknown"
}

// Policy names a policy.
type Policy struct{ Kind, Namespace, Name string }

// plain turns the wire's flow into plain words.
func plain(f *flow.Flow, node string) Flow {
	out := Flow{Verdict: f.GetVerdict().String(), Proto: "", DNSCode: -1, Count: 1, Node: orElse(f.GetNodeName(), node), L7: f.GetL7() != nil}
	if f.GetTime() != nil {
		out.Time = f.GetTime().AsTime()
	}
	out.Drop = reason(f)
	out.Source = end(f.GetSource(), f.GetSourceNames(), f.GetSourceService(), f.GetIP().GetSource())
	out.Destination = end(f.GetDestination(), f.GetDestinationNames(), f.GetDestinationService(), f.GetIP().GetDestination())
	switch l4 := f.GetL4(); {
	case l4.GetTCP() != nil:
		out.Proto, out.SourcePort, out.Port = "TCP", l4.GetTCP().GetSourcePort(), l4.GetTCP().GetDestinationPort()
		out.SYN = l4.GetTCP().GetFlags().GetSYN() && !l4.GetTCP().GetFlags().GetACK()
		out.RST = l4.GetTCP().GetFlags().GetRST()
	case l4.GetUDP() != nil:
		out.Proto, out.SourcePort, out.Port = "UDP", l4.GetUDP().GetSourcePort(), l4.GetUDP().GetDestinationPort()
	case l4.GetSCTP() != nil:
		out.Proto, out.SourcePort, out.Port = "SCTP", l4.GetSCTP().GetSourcePort(), l4.GetSCTP().GetDestinationPort()
	case l4.GetICMPv4() != nil:
		out.Proto = "ICMPv4"
	case l4.GetICMPv6() != nil:
		out.Proto = "ICMPv6"
	}
	if d := f.GetTrafficDirection(); d != flow.TrafficDirection_TRAFFIC_DIRECTION_UNKNOWN {
		out.Direction = d.String()
	}
	if f.GetIsReply() != nil {
		out.Reply = map[bool]string{true: "yes", false: "no"}[f.GetIsReply().GetValue()]
	}
	out.DeniedBy = policies(f.GetIngressDeniedBy(), f.GetEgressDeniedBy())
	out.AllowedBy = policies(f.GetIngressAllowedBy(), f.GetEgressAllowedBy())
	if h := f.GetL7().GetHttp(); h != nil {
		out.HTTPCode = h.GetCode()
	}
	if d := f.GetL7().GetDns(); d != nil {
		out.DNSQuery = d.GetQuery()
		if f.GetL7().GetType() == flow.L7FlowType_RESPONSE {
			out.DNSCode = int(d.GetRcode())
		}
	}
	if f.GetAuthType() != flow.AuthType_DISABLED {
		out.AuthType = f.GetAuthType().String()
	}
	if a := f.GetAggregate(); a != nil {
		out.Count = max(1, uint64(a.GetIngressFlowCount())+uint64(a.GetEgressFlowCount())+uint64(a.GetUnknownDirectionFlowCount()))
	}
	return out
}

// reason names why a flow was dropped. The description outranks the number, which
// older servers fill.
func reason(f *flow.Flow) string {
	if r := f.GetDropReasonDesc(); r != flow.DropReason_DROP_REASON_UNKNOWN {
		if name, ok := flow.DropReason_name[int32(r)]; ok {
			return name
		}
		return fmt.Sprintf("DROP_%d", r)
	}
	n := f.GetDropReason() //nolint:staticcheck // filled by older servers only
	if n == 0 {
		return ""
	}
	if name, ok := flow.DropReason_name[int32(n)]; ok {
		return name
	}
	return fmt.Sprintf("DROP_%d", n)
}

func end(e *flow.Endpoint, names []string, svc *flow.Service, ip string) End {
	out := End{Namespace: e.GetNamespace(), Pod: e.GetPodName(), Cluster: e.GetClusterName(), Identity: e.GetIdentity(), Labels: e.GetLabels(), IP: ip, Names: names}
	if svc.GetName() != "" {
		out.Service = svc.GetNamespace() + "/" + svc.GetName()
	}
	return out
}

func policies(lists ...[]*flow.Policy) []Policy {
	seen := map[Policy]bool{}
	for _, l := range lists {
		for _, p := range l {
			if p.GetName() != "" {
				seen[Policy{Kind: p.GetKind(), Namespace: p.GetNamespace(), Name: p.GetName()}] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b Policy) int {
		return strings.Compare(a.Kind+a.Namespace+a.Name, b.Kind+b.Namespace+b.Name)
	})
}

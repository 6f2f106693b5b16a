package hubble

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// understood are the fields of a filter that the replay applies.
func understood() []protoreflect.Name {
	return []protoreflect.Name{"source_pod", "destination_pod", "source_ip", "destination_ip", "source_identity", "destination_identity", "source_fqdn", "destination_fqdn",
		"source_service", "destination_service", "verdict", "drop_reason_desc", "traffic_direction", "protocol", "source_port", "destination_port", "reply", "node_name", "event_type", "uuid"}
}

// known refuses filters with a field that the replay does not apply: what a filter
// would have left out must not pass.
func known(filters []*flow.FlowFilter) error {
	for _, f := range filters {
		var bad string
		f.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			if !slices.Contains(understood(), fd.Name()) {
				bad = string(fd.Name())
			}
			return bad == ""
		})
		if bad != "" {
			return status.Errorf(codes.InvalidArgument, "a recorded observer does not filter by %s", bad)
		}
	}
	return nil
}

// matches applies one filter: all fields must match, any value of a field will do.
func matches(x *flow.FlowFilter, f *flow.Flow, node string) bool {
	src, dst := f.GetSource(), f.GetDestination()
	sport, dport, proto := ports(f)
	for _, ok := range []bool{
		anyOf(x.GetUuid(), func(v string) bool { return v == f.GetUuid() }),
		anyOf(x.GetSourcePod(), pod(src)), anyOf(x.GetDestinationPod(), pod(dst)),
		anyOf(x.GetSourceIp(), func(v string) bool { return v == f.GetIP().GetSource() }),
		anyOf(x.GetDestinationIp(), func(v string) bool { return v == f.GetIP().GetDestination() }),
		anyOf(x.GetSourceIdentity(), func(v uint32) bool { return v == src.GetIdentity() }),
		anyOf(x.GetDestinationIdentity(), func(v uint32) bool { return v == dst.GetIdentity() }),
		anyOf(x.GetSourceFqdn(), func(v string) bool { return slices.Contains(f.GetSourceNames(), v) }),
		anyOf(x.GetDestinationFqdn(), func(v string) bool { return slices.Contains(f.GetDestinationNames(), v) }),
		anyOf(x.GetSourceService(), service(f.GetSourceService())), anyOf(x.GetDestinationService(), service(f.GetDestinationService())),
		anyOf(x.GetVerdict(), func(v flow.Verdict) bool { return v == f.GetVerdict() }),
		anyOf(x.GetDropReasonDesc(), func(v flow.DropReason) bool { return v == f.GetDropReasonDesc() }),
		anyOf(x.GetTrafficDirection(), func(v flow.TrafficDirection) bool { return v == f.GetTrafficDirection() }),
		anyOf(x.GetProtocol(), func(v string) bool { return strings.EqualFold(v, proto) }),
		anyOf(x.GetSourcePort(), func(v string) bool { return v == sport }),
		anyOf(x.GetDestinationPort(), func(v string) bool { return v == dport }),
		anyOf(x.GetReply(), func(v bool) bool { return f.GetIsReply() != nil && v == f.GetIsReply().GetValue() }),
		anyOf(x.GetNodeName(), func(v string) bool { return v == node || strings.HasSuffix(node, "/"+v) }),
		anyOf(x.GetEventType(), func(v *flow.EventTypeFilter) bool { return v.GetType() == f.GetEventType().GetType() }),
	} {
		if !ok {
			return false
		}
	}
	return true
}

func anyOf[T any](want []T, is func(T) bool) bool {
	return len(want) == 0 || slices.ContainsFunc(want, is)
}

// pod matches "namespace/prefix", "namespace/" and "prefix" of namespace default.
func pod(e *flow.Endpoint) func(string) bool {
	return func(v string) bool {
		ns, name, ok := strings.Cut(v, "/")
		if !ok {
			ns, name = "default", v
		}
		return e.GetNamespace() == ns && strings.HasPrefix(e.GetPodName(), name) && e.GetPodName() != ""
	}
}

func service(s *flow.Service) func(string) bool {
	return func(v string) bool {
		ns, name, ok := strings.Cut(v, "/")
		if !ok {
			ns, name = "default", v
		}
		return s.GetNamespace() == ns && strings.HasPrefix(s.GetName(), name) && s.GetName() != ""
	}
}

func ports(f *flow.Flow) (source, destination, proto string) {
	text := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	switch l4 := f.GetL4(); {
	case l4.GetTCP() != nil:
		return text(l4.GetTCP().GetSourcePort()), text(l4.GetTCP().GetDestinationPort()), "tcp"
	case l4.GetUDP() != nil:
		return text(l4.GetUDP().GetSourcePort()), text(l4.GetUDP().GetDestinationPort()), "udp"
	case l4.GetSCTP() != nil:
		return text(l4.GetSCTP().GetSourcePort()), text(l4.GetSCTP().GetDestinationPort()), "sctp"
	case l4.GetICMPv4() != nil:
		return "", "", "icmpv4"
	case l4.GetICMPv6() != nil:
		return "", "", "icmpv6"
	}
	return "", "", ""
}

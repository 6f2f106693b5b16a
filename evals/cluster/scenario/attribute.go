package scenario

import (
	"fmt"
	"strconv"
	"strings"

	resourceapi "k8s.io/api/resource/v1"
)

// attribute reads "text", "int:8", "bool:true" or "version:1.2.3".
func attribute(v string) (resourceapi.DeviceAttribute, error) {
	kind, rest, ok := strings.Cut(v, ":")
	if ok {
		switch kind {
		case "int":
			n, err := strconv.ParseInt(rest, 10, 64)
			if err != nil {
				return resourceapi.DeviceAttribute{}, fmt.Errorf("%q is no integer", rest)
			}
			return resourceapi.DeviceAttribute{IntValue: &n}, nil
		case "bool":
			b, err := strconv.ParseBool(rest)
			if err != nil {
				return resourceapi.DeviceAttribute{}, fmt.Errorf("%q is neither true nor false", rest)
			}
			return resourceapi.DeviceAttribute{BoolValue: &b}, nil
		case "version":
			return resourceapi.DeviceAttribute{VersionValue: &rest}, nil
		}
	}
	return resourceapi.DeviceAttribute{StringValue: &v}, nil
}

func sanitize(s string) string { return strings.NewReplacer(".", "-", "/", "-").Replace(s) }

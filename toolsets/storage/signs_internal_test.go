package storage

import (
	"strings"
	"testing"
	"time"
)

// TestSigns holds the table against the words of drivers, clouds and kubelets, and
// against words that only look like them.
func TestSigns(t *testing.T) {
	t.Parallel()
	rows, err := loadSigns()
	if err != nil {
		t.Fatal(err)
	}
	ts := &Toolset{signs: rows}
	seen := map[string]bool{}
	for _, tc := range []struct{ stage, message, id, fact, value string }{
		{stageAttach, `"OperationNotAllowed", "message": "The maximum number of data disks allowed to be attached to a VM of this size is 8."`, "azure-data-disks", "limit", "8"},
		{stageAttach, "api error AttachmentLimitExceeded: The maximum number of attachments", "aws-attachments", "", ""},
		{stageAttach, "Exceeded limit 'maximum_persistent_disks' on resource 'gke-a-1'. Limit: 16.0", "gce-disks", "", ""},
		{stageAttach, "rpc error: code = ResourceExhausted desc = max volumes attached", "csi-exhausted", "", ""},
		{stageAttach, "Disk /s/disks/a cannot be attached to the VM because it is not in the same zone as the VM. VM zone: '2'. Disk zone: '1'.", "azure-zone", "volume_zone", "1"},
		{stageAttach, "InvalidVolume.ZoneMismatch: The volume 'vol-1' is not in the same availability zone as instance 'i-1'", "other-zone", "", ""},
		{stageProvision, "HTTPStatusCode: 429, RawError: TooManyRequests", "throttled", "", ""},
		{stageDetach, "RequestLimitExceeded: Request limit exceeded.", "throttled", "", ""},
		{stageProvision, "MissingSubscriptionRegistration: The subscription is not registered to use namespace 'Microsoft.ElasticSan'", "not-registered", "", ""},
		{stageProvision, "The subscription is not registered to use namespace 'Microsoft.ElasticSan'.", "not-registered", "provider", "Microsoft.ElasticSan"},
		{stageProvision, "Maximum possible number of Elastic SAN for the Subscription created already", "san-count", "", ""},
		{stageProvision, "googleapi: Error 403: Quota 'SSD_TOTAL_GB' exceeded. Limit: 500.0 in region", "quota", "", ""},
		{stageProvision, "VolumeLimitExceeded: You have exceeded your maximum gp3 storage limit", "quota", "", ""},
		{stageProvision, "does not have authorization to perform action 'Microsoft.Compute/disks/write' over scope", "permission", "action", "Microsoft.Compute/disks/write"},
		{stageProvision, "rpc error: code = InvalidArgument desc = Volume capability not supported: access mode MULTI_NODE_MULTI_WRITER", "access-mode", "", ""},
		{stageProvision, "error generating accessibility requirements: no topology key found on CSINode gpu-7", "no-topology", "node", "gpu-7"},
		{stageProvision, "rpc error: code = InvalidArgument desc = skuName is not valid", "bad-parameter", "why", "skuName is not valid"},
		{stageProvision, "rpc error: code = ResourceExhausted desc = pool full", "no-capacity", "", ""},
		{stageAttach, "rpc error: code = NotFound desc = volume vol-1 not found", "volume-gone", "", ""},
		{stageMount, "iscsiadm: initiator reported error (8 - connection timed out)", "iscsi", "", ""},
		{stageMount, "mount.nfs: Connection timed out", "nfs", "", ""},
		{stageMount, "mount error(110): Connection timed out", "nfs", "", ""},
		{stageMount, "mount.nfs: access denied by server while mounting 10.0.0.4:/m", "mount-denied", "", ""},
		{stageMount, "mount error(13): Permission denied", "mount-denied", "", ""},
		{stageMount, "'fsck' found errors on device /dev/sdc but could not correct them", "filesystem", "", ""},
		{stageMount, "VolumePermissionChangeInProgress: Setting volume ownership for x, processed 12 files.", "fsgroup", "files", "12"},
		{stageMount, "driver name a.b.c not found in the list of registered CSI drivers", "not-registered-node", "driver", "a.b.c"},
		{stageMount, "timed out waiting for the condition", "", "", ""},
		{stageAttach, `Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) a`, "", "", ""},
		{stageProvision, "waiting for a volume to be created", "", "", ""},
		{stageMount, `MountVolume.SetUp failed for volume "cfg" : configmap "cfg" not found`, "", "", ""},
	} {
		s, facts := ts.read(tc.stage, tc.message)
		got := ""
		if s != nil {
			got = s.ID
		}
		seen[got] = true
		if got != tc.id || tc.fact != "" && facts[tc.fact] != tc.value {
			t.Errorf("%s %q: row %q, facts %v", tc.stage, tc.message, got, facts)
		}
	}
	for _, r := range rows {
		if !seen[r.ID] {
			t.Errorf("no words are tried against row %s", r.ID)
		}
	}
}

func TestReadPull(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	seen := map[string]*pull{}
	for _, e := range []Event{
		{Message: `Pulling image "a:1"`, Last: at},
		{Message: `Successfully pulled image "a:1" in 2m3.5s (3m0s including waiting). Image size: 5000 bytes.`, Last: at.Add(3 * time.Minute)},
		{Message: `Successfully pulled image "b:1" in 12.25s`, Last: at},
		{Message: `Container image "c:1" already present on machine`, Last: at},
		{Message: `Successfully pulled image "d:1" in soon`, Last: at},
		{Message: `Pulling image`, Last: at},
	} {
		readPull(e, seen)
	}
	a, b, c := seen["a:1"], seen["b:1"], seen["c:1"]
	if a == nil || a.took != 123500*time.Millisecond || a.waited != 56500*time.Millisecond || a.bytes != 5000 || a.state != "pulled" {
		t.Errorf("a: %+v", a)
	}
	if b == nil || b.took != 12250*time.Millisecond || b.waited != 0 {
		t.Errorf("b: %+v", b)
	}
	if c == nil || c.state != "present" || seen["d:1"] != nil || len(seen) != 3 {
		t.Errorf("%+v", seen)
	}
}

// FuzzReadPull: whatever a kubelet or a liar writes, durations are not negative and
// nothing panics.
func FuzzReadPull(f *testing.F) {
	for _, s := range []string{`Pulling image "a"`, `Successfully pulled image "a" in 1h2m3.4s (5h including waiting). Image size: 9 bytes.`, `Successfully pulled image "" in -1s`, "", "\xff", `Container image "x" already present`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		seen := map[string]*pull{}
		readPull(Event{Message: s}, seen)
		for image, p := range seen {
			if !strings.Contains(s, image) || p.took < 0 || p.waited < 0 || p.bytes < 0 {
				t.Fatalf("%q gives %q %+v", s, image, p)
			}
		}
	})
}

// FuzzSigns: no text of a cluster breaks the table, and the facts are parts of it.
func FuzzSigns(f *testing.F) {
	rows, err := loadSigns()
	if err != nil {
		f.Fatal(err)
	}
	ts := &Toolset{signs: rows}
	for _, s := range []string{"429", "code = NotFound desc = x", "VM zone: '", "driver name x not found in the list of registered CSI drivers", strings.Repeat("disk not in zone ", 50)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, stage := range []string{stageAttach, stageMount, stageProvision, stageDetach} {
			_, facts := ts.read(stage, s)
			for _, v := range facts {
				if !strings.Contains(s, v) {
					t.Fatalf("fact %q is not in %q", v, s)
				}
			}
		}
	})
}

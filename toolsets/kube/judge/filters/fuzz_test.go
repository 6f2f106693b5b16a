package filters

import "testing"

// FuzzRead feeds what a scheduler may write into a pod's condition.
func FuzzRead(f *testing.F) {
	f.Add("0/3 nodes are available: 1 node(s) had untolerated taint {claimed-by: vision}, 2 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found.")
	f.Add("0/40 nodes are available: 40 cannot allocate all claims.")
	f.Add("pod has unbound immediate PersistentVolumeClaims")
	f.Add("0/99999999999999999999 nodes are available: ")
	f.Fuzz(func(t *testing.T, message string) {
		s := Read(message)
		for _, k := range s.Kinds() {
			if !s.Counted(k) && s.Counts[k] != 0 {
				t.Errorf("%s is counted %d times and not counted", k, s.Counts[k])
			}
		}
		_ = s.Differs(nil)
	})
}

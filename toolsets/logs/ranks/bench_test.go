package ranks_test

import (
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/toolsets/logs/ranks"
)

// BenchmarkRead reads what is read of one member: 1500 lines, most of them progress.
func BenchmarkRead(b *testing.B) {
	text := strings.Repeat(step(1, 3)+"2026-11-25T09:00:00Z INFO saved checkpoint shard 3 of 8\n", 750) + watchdog(9, 3, 7, "ALLREDUCE", 8)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		ranks.Read(text)
	}
}

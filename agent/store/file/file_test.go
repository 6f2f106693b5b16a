package file_test

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/agent/store/storetest"
)

// TestMain runs the tests, or, as a child of one of them, what it is told to.
func TestMain(m *testing.M) {
	storetest.Main(child)
	goleak.VerifyTestMain(m)
}

// open opens a directory and closes it at the end of the test.
func open(t *testing.T, dir string, change ...func(*file.Config)) *file.Store {
	t.Helper()
	cfg := file.Config{Dir: dir, Poll: 5 * time.Millisecond, Lazy: []string{store.Runs}}
	for _, c := range change {
		c(&cfg)
	}
	s, err := file.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Bench {
		dir, c := t.TempDir(), storetest.NewClock()
		again := func(t *testing.T) store.Store {
			// No waiting for the disk: what is tested is what is there.
			return open(t, dir, func(cfg *file.Config) { cfg.Now, cfg.Sync = c.Now, func(*os.File) error { return nil } })
		}
		return storetest.Bench{Store: again(t), Again: again, Advance: c.Advance, Delete: func(ctx context.Context, s store.Store, subject string) error {
			return s.(*file.Store).Remove(ctx, subject)
		}}
	})
}

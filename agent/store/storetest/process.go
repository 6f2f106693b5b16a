package storetest

import (
	"bufio"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// Clock is moved by hand; it begins at Epoch.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock gives a clock that stands at Epoch.
func NewClock() *Clock { return &Clock{now: Epoch()} }

// Now is what the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// What a test tells the process that it starts.
const (
	jobEnv = "GUMSHOE_TEST_JOB"
	dirEnv = "GUMSHOE_TEST_DIR"
)

// Main does the job of a process that Command started, and ends the process with the
// exit code. In any other it does nothing. It is the first thing that TestMain calls.
func Main(do func(job, dir string) int) {
	if job := os.Getenv(jobEnv); job != "" {
		os.Exit(do(job, os.Getenv(dirEnv)))
	}
}

// Command is the binary of this test as another process, with a job on a directory.
func Command(t *testing.T, job, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), jobEnv+"="+job, dirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// Held starts a process whose job takes hold of something, says "held" and stays.
func Held(t *testing.T, job, dir string) *exec.Cmd {
	t.Helper()
	cmd := Command(t, job, dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("the process says %q, %v", line, err)
	}
	return cmd
}

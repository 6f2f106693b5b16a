package e2e

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// process is a program that a test runs. The kernel ends it when the test is killed.
type process struct {
	cmd *exec.Cmd
	// ended is closed once the process is gone; err says how it went.
	ended chan struct{}
	err   error
	mu    sync.Mutex
	said  []byte
}

// maxSaid is how much of the end of a program's output is kept.
const maxSaid = 64 << 10

// Write keeps what the program says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, b...)
	p.said = p.said[max(0, len(p.said)-maxSaid):]
	return len(b), nil
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.said)
}

// spawn starts a program; it is ended with the test.
func spawn(t *testing.T, cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	// The signal comes when the thread that started the program ends, so it is kept.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	t.Cleanup(p.kill)
	return p, nil
}

// kill ends the process at once, as kill -9 does, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// killed reports whether a signal that cannot be caught ended the process.
func (p *process) killed() bool {
	s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && s.Signaled() && s.Signal() == syscall.SIGKILL
}

package cli_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/integrations/cli"
)

const alone = "GUMSHOE_TEST_WITHOUT_NETWORK"

// The demo needs no network: it runs in a network namespace that has none, and
// what it prints is the same.
func TestDemoWithoutNetwork(t *testing.T) {
	t.Parallel()
	if os.Getenv(alone) != "" {
		isolated(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestDemoWithoutNetwork$", "-test.v")
	cmd.Env = append(os.Environ(), alone+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Start()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("this machine does not let a test make a network namespace: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	code, want, errs := run(t, nil, "demo")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if !strings.Contains(out.String(), want) {
		t.Errorf("without a network the demo prints\n%s\nand with one\n%s", out.String(), want)
	}
}

// isolated is the demo inside the namespace, once it is sure that there is no network.
func isolated(t *testing.T) {
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Flags&net.FlagUp != 0 {
			t.Fatalf("interface %s is up", l.Name)
		}
	}
	if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", "192.0.2.1:443"); err == nil {
		_ = c.Close()
		t.Fatal("there is a network")
	}
	var errs bytes.Buffer
	code := cli.Run(context.Background(), []string{"demo"}, cli.Streams{In: strings.NewReader(""), Out: os.Stdout, Err: &errs, Getenv: func(string) string { return "" }})
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
}

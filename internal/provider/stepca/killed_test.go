package stepca_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/stepca"
)

const childSpec = "PHOENIX_TEST_STEPCA_SPEC"

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	raw := os.Getenv(childSpec)
	if raw == "" {
		os.Exit(m.Run())
	}
	var s spec.StepCA
	err := json.Unmarshal([]byte(raw), &s)
	fmt.Print("b") // begins
	if err == nil {
		err = stepca.Driver{}.Apply(context.Background(), &host.Local{}, address, s, plan.Delta{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A real process is really killed, later and later, in the middle of writing too.
func TestSIGKILLDuringInitialisation(t *testing.T) {
	needRoot(t)
	without, with, whole := 0, 0, 0
	for after := time.Duration(0); whole < 3; after += 300 * time.Microsecond {
		if after > 10*time.Second {
			t.Fatal("the initialisation never ended")
		}
		s := caSpec(t)
		kill(t, s, after)
		before := look(t, &host.Local{}, s)
		switch {
		case before == nil:
			without++
		case (stepca.Driver{}).Diff(s, before).Empty():
			whole++
		default:
			with++
		}
		st := converge(t, &host.Local{}, s)
		if before != nil && before.RootFingerprint != st.RootFingerprint {
			t.Errorf("killed after %s: root %q was replaced by %s", after, before.RootFingerprint, st.RootFingerprint)
		}
		complete(t, s)
	}
	t.Logf("killed %d times before there was a root, %d times between root and end", without, with)
	if without == 0 || with == 0 {
		t.Error("no kill hit the middle")
	}
}

// kill starts the initialisation and ends it after a while.
func kill(t *testing.T, s spec.StepCA, after time.Duration) {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childSpec+"="+string(raw))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after) // no condition to wait for: the moment is what is varied
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/backup"
	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// backupQuestion asks the CA's own container for its secrets, sealed, or to take them back. They are in the clear in there only.
type backupQuestion struct {
	Dir      string `json:"dir"` // the CA's volume
	Password []byte `json:"password"`
	Sealed   []byte `json:"sealed,omitempty"` // to be restored; empty: make a backup
	Pinned   string `json:"pinned,omitempty"`
	Inspect  bool   `json:"inspect,omitempty"` // only tell which root the backup holds
	Replace  bool   `json:"replace,omitempty"` // another root that stands there is set aside
}

type backupAnswer struct {
	Sealed      []byte `json:"sealed,omitempty"`
	Fingerprint string `json:"fingerprint"`
}

func answerBackup(h host.Host, q backupQuestion) (json.RawMessage, error) {
	var a backupAnswer
	var err error
	if q.Inspect || q.Replace {
		a.Fingerprint, err = inspectBackup(h, q)
	}
	if err == nil && q.Replace {
		err = setRootAside(h, q.Dir, a.Fingerprint)
	}
	switch {
	case err != nil || q.Inspect:
	case len(q.Sealed) > 0:
		a.Fingerprint, err = backup.Restore(h, q.Dir, q.Pinned, q.Sealed, q.Password)
	default:
		a.Sealed, a.Fingerprint, err = backup.Make(h, q.Dir, q.Password)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

func (a *app) backupCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "backup FILE --password-file FILE", Short: "the CA's keys in one file, sealed in its container with a password",
		Long: `backup seals the root and the intermediate with their keys in the CA's own container and
writes the sealed file; nothing of them is in the clear outside. The password is read from a
file, or from standard input (-): its first line. Keep both, and not in one place.

Without phoenix: openssl enc -d -aes-256-cbc -pbkdf2 -iter 600000 -pass file:PASSWORD -in FILE | tar -xz`,
		Example: `  phoenix ca backup /media/stick/ca.sealed --password-file /root/ca-password
  pass ca-backup | phoenix ca backup ca.sealed --password-file -`,
		Args: oneFile,
	}
	passwordFlag(cmd, &from)
	cmd.RunE = a.command(func(ctx context.Context, args []string) error { return a.caBackup(ctx, args[0], from) })
	return cmd
}

func (a *app) restoreCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "restore FILE --password-file FILE", Short: "bring the same root back into a CA whose volume was lost",
		Long: `restore makes the CA's container as far as it needs no root, has it take the backup back, and
starts the CA. The root must be the pinned one: another root that is in use is never
replaced, and how to get there all the same is said. One that nobody uses yet, as no other
container exists, is replaced with --yes. Where no root is pinned, as on a new machine, the
backup's is. Afterwards: phoenix up.`,
		Example: `  phoenix ca restore /media/stick/ca.sealed --password-file /root/ca-password`,
		Args:    oneFile,
	}
	passwordFlag(cmd, &from)
	cmd.Flags().BoolVar(&a.opts.yes, "yes", false, "agree to have another root, which nobody uses yet, replaced")
	cmd.RunE = a.command(func(ctx context.Context, args []string) error { return a.caRestore(ctx, args[0], from) })
	return cmd
}

func passwordFlag(cmd *cobra.Command, from *string) {
	cmd.Flags().StringVar(from, "password-file", "", "its first line is the password; - is standard input")
}

func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &usageError{err: fmt.Errorf("%s needs one file", cmd.Name()), hint: "phoenix ca " + cmd.Name() + " ca.sealed --password-file FILE"}
	}
	return nil
}

// readPassword never takes one from an argument or the environment, where others could see it.
func (a *app) readPassword(from string) ([]byte, error) {
	var raw []byte
	var err error
	switch from {
	case "":
		return nil, &usageError{err: errors.New("--password-file is missing"), hint: "a file whose first line is the password, or - for standard input"}
	case "-":
		raw, err = io.ReadAll(io.LimitReader(a.stdin, 64<<10))
	default:
		raw, err = a.host.ReadFile(from)
	}
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	if line = bytes.TrimSuffix(line, []byte("\r")); len(line) < backup.PasswordMin {
		return nil, hint("for example: openssl rand -base64 24", "the password is too short: whoever has the file may guess; it needs %d characters", backup.PasswordMin)
	}
	return line, nil
}

func (a *app) caBackup(ctx context.Context, path, from string) error {
	password, err := a.readPassword(from)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if _, err := a.host.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return hint("give another name, or move it away", "%s is there already", path)
	}
	s, err := a.openCA(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	answer, err := s.askBackup(ctx, backupQuestion{Password: password})
	if err != nil {
		return err
	}
	if err := s.host.WriteFile(path, answer.Sealed, 0o600, host.Owner{UID: os.Geteuid(), GID: os.Getegid()}); err != nil {
		return err
	}
	a.view.Sealed(view.Sealed{File: path, Root: answer.Fingerprint})
	return nil
}

// backupLimit is more than keys, certificates and ca.json make, sealed.
var backupLimit = agent.Answer{Bytes: 2 << 20, String: 2 << 20, Within: 2 * time.Minute}

// askBackup asks the phoenix in the CA's container.
func (s *session) askBackup(ctx context.Context, q backupQuestion) (answer backupAnswer, err error) {
	id := s.authority()
	ca, ok := specOf[spec.StepCA](s.objects, object.NewAddress(spec.KindStepCA, id))
	if !ok {
		return answer, hint(`give one container the feature "step_ca"`, "no container of this configuration is a CA")
	}
	q.Dir = ca.Dir
	raw, err := json.Marshal(question{Backup: &q})
	if err != nil {
		return answer, err
	}
	client, err := s.links.any(ctx, id)
	if err != nil {
		return answer, err
	}
	said, err := client.Check(ctx, raw, backupLimit)
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(said, &answer)
}

func (a *app) caRestore(ctx context.Context, path, from string) error {
	password, err := a.readPassword(from)
	if err != nil {
		return err
	}
	sealed, err := a.host.ReadFile(path)
	if err != nil {
		return err
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer func() { s.close() }()
	id := s.authority()
	if id == "" {
		return hint(`give one container the feature "step_ca"`, "no container of this configuration is a CA")
	}
	done, err := s.beforeRoot(ctx, id)
	if err != nil || outcome(done) != nil {
		a.view.Applied(done)
		return errors.Join(err, outcome(done))
	}
	s.changes = true // its daemon rests meanwhile
	answer, err := s.putBack(ctx, id, path, password, sealed)
	if err != nil {
		return err
	}
	s.close()
	if s, err = a.open(); err != nil {
		return err
	}
	if done, err = s.makeTrue(ctx, []string{id}); err != nil {
		return err
	}
	if failed := outcome(done); failed != nil {
		a.view.Applied(done)
		return failed
	}
	a.view.Sealed(view.Sealed{File: path, Root: answer.Fingerprint, Restored: true, Next: s.again("up")})
	return nil
}

// beforeRoot makes true what the CA needs before it has a root.
func (s *session) beforeRoot(ctx context.Context, id string) (view.Applied, error) {
	s.cutTemplates(ctx)
	objects, containers := s.selected([]string{id})
	if err := s.prepare(ctx, containers); err != nil {
		return view.Applied{}, err
	}
	if err := s.release([]string{id}); err != nil {
		return view.Applied{}, err
	}
	wanted := map[object.Address]bool{object.NewAddress(spec.KindStepCA, id): true}
	var first []object.Object
	for i := len(objects) - 1; i >= 0; i-- { // they stand behind what they depend on
		if !wanted[objects[i].Address] {
			continue
		}
		for _, d := range objects[i].Dependencies() {
			wanted[d] = true
		}
		if objects[i].Address.Kind() != spec.KindStepCA {
			first = append(first, objects[i])
		}
	}
	ordered, diags := plan.Order(first)
	if err := diags.Err(); err != nil {
		return view.Applied{}, err
	}
	return s.apply(ctx, ordered, containers)
}

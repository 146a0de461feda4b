package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

// backupQuestion asks the CA's own container for its secrets, sealed, or to take them back. They are in the clear in
// there only.
type backupQuestion struct {
	Dir     string     `json:"dir"` // the CA's volume
	Key     backup.Key `json:"key"`
	Restore bool       `json:"restore,omitempty"` // Sealed; otherwise a backup is made
	Sealed  []byte     `json:"sealed,omitempty"`
	Pinned  string     `json:"pinned,omitempty"`
	Inspect bool       `json:"inspect,omitempty"` // only tell which root the backup holds
	Replace bool       `json:"replace,omitempty"` // another root that stands there is set aside
}

type backupAnswer struct {
	Sealed      []byte `json:"sealed,omitempty"`
	Fingerprint string `json:"fingerprint"`
	Changes     int    `json:"changes,omitempty"` // of a restore
}

// check is what the hypervisor can see of a backup: that it is one, and that the container says it is of a root
// that is pinned.
func (a backupAnswer) check(p spec.Pins) error {
	if err := backup.CheckSealed(a.Sealed); err != nil {
		return err
	}
	if !spec.IsFingerprint(a.Fingerprint) || !slices.Contains([]string{p.Root, p.Next, p.Old}, a.Fingerprint) {
		return errors.New("its backup is not of the root that is pinned")
	}
	return nil
}

func answerBackup(h host.Host, q backupQuestion) (json.RawMessage, error) {
	var a backupAnswer
	var err error
	if q.Inspect || q.Replace {
		a.Fingerprint, err = backup.Inspect(q.Sealed, q.Key)
	}
	if err == nil && q.Replace {
		err = setRootAside(h, q.Dir, a.Fingerprint)
	}
	switch {
	case err != nil || q.Inspect:
	case q.Restore || q.Replace:
		var done backup.Restored
		done, err = backup.Restore(h, q.Dir, q.Pinned, q.Sealed, q.Key)
		a.Fingerprint, a.Changes = done.Root, done.Changes
	default:
		a.Sealed, a.Fingerprint, err = backup.Make(h, q.Dir, q.Key)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

func (a *app) backupCommand() *cobra.Command {
	var from keyFlags
	cmd := &cobra.Command{
		Use:   "backup FILE (--password-file FILE | --recipient AGE1 | --recipients-file FILE)",
		Short: "the CA's keys in one file, encrypted in its container",
		Long: `backup encrypts the root and the intermediate with their keys in the CA's own container and
writes the encrypted file; nothing of them is in the clear outside. It is a file of age
(age-encryption.org): for a password, which is read from a file, from standard input (-) or
at the terminal, or for recipients. Keep both, and not in one place.

Without phoenix: age -d FILE | tar -xz`,
		Example: `  phoenix ca backup /media/stick/ca.age --password-file /root/ca-password
  phoenix ca backup ca.age --recipient age1…
  pass ca-backup | phoenix ca backup ca.age --password-file -`,
		Args: oneFile,
	}
	from.password(cmd)
	cmd.Flags().StringArrayVar(&from.recipients, "recipient", nil, "whose identity opens it: age1…")
	cmd.Flags().StringVar(&from.recipientsFile, "recipients-file", "", "a file with recipients, one a line")
	cmd.RunE = a.command(func(ctx context.Context, args []string) error { return a.caBackup(ctx, args[0], from) })
	return cmd
}

func (a *app) restoreCommand() *cobra.Command {
	var from keyFlags
	cmd := &cobra.Command{
		Use:   "restore FILE (--password-file FILE | --identity FILE)",
		Short: "bring the same root back into a CA whose volume was lost",
		Long: `restore makes the CA's container as far as it needs no root, has it take the backup back, and
starts the CA. All that is in the backup is checked before anything is replaced: every key
against its certificate and password, the chain, the pin. The root must be the pinned one:
another root that is in use is never replaced, and how to get there all the same is said. One
that nobody uses yet, as no other container exists, is replaced with --yes. Where no root is
pinned, as on a new machine, the backup's is. Afterwards: phoenix up.`,
		Example: `  phoenix ca restore /media/stick/ca.age --password-file /root/ca-password
  phoenix ca restore ca.age --identity /media/other/identity.txt`,
		Args: oneFile,
	}
	from.password(cmd)
	cmd.Flags().StringVar(&from.identity, "identity", "", "a file with an identity of age; - is standard input")
	cmd.Flags().BoolVar(&a.opts.yes, "yes", false, "agree to have another root, which nobody uses yet, replaced")
	cmd.RunE = a.command(func(ctx context.Context, args []string) error { return a.caRestore(ctx, args[0], from) })
	return cmd
}

func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &usageError{err: fmt.Errorf("%s needs one file", cmd.Name()),
			hint: "phoenix ca " + cmd.Name() + " ca.age --password-file FILE"}
	}
	return nil
}

func (a *app) caBackup(ctx context.Context, path string, from keyFlags) error {
	key, err := a.sealingKey(from)
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
	answer, err := s.askBackup(ctx, backupQuestion{Key: key})
	if err == nil {
		if err = answer.check(s.machine.Pins); err != nil {
			err = fmt.Errorf("container %s: %w", s.authority(), err)
		}
	}
	if err != nil {
		return hint("nothing was written; "+s.again("health"), "%w", err)
	}
	if err := s.host.WriteFile(path, answer.Sealed, 0o600,
		host.Owner{UID: os.Geteuid(), GID: os.Getegid()}); err != nil {
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

func (a *app) caRestore(ctx context.Context, path string, from keyFlags) error {
	sealed, err := a.host.ReadFile(path)
	if err == nil {
		err = backup.CheckSealed(sealed)
	}
	if err != nil {
		return hint("nothing was changed", "%s: %w", path, err)
	}
	key, err := a.openingKey(from)
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
	answer, err := s.putBack(ctx, id, path, key, sealed)
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
	a.view.Sealed(view.Sealed{File: path, Root: answer.Fingerprint, Restored: true, Changes: answer.Changes,
		Next: s.again("up")})
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

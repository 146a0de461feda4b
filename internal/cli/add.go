package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// appWish is what the flags of add app say.
type appWish struct {
	port, id                       int
	scheme, host, address, cloneOf string
	given                          func(flag string) bool
}

func (a *app) addCommand() *cobra.Command {
	var want appWish
	cmd := &cobra.Command{
		Use: "app NAME", Short: "an application: its container, route, name and, with https, certificate",
		Long: `add app puts an application behind the gateway into the files of the configuration: a
container with an id and an address that are free, its route, the name in the zone, and
with --scheme https a certificate of its own on a volume. All else in the files stays as
it is. It shows the difference and what phoenix up would do, and makes no container. What
is taken is refused, with the place. A second run changes nothing.`,
		Example: `  phoenix add app wiki --port 8080
  phoenix add app wiki --port 8443 --scheme https --id 205 --host docs.home.internal`,
		Args: oneApp,
	}
	f := cmd.Flags()
	f.IntVar(&want.port, "port", 0, "port that the application listens at in its container")
	f.IntVar(&want.id, "id", 0, "id of the container (default: the first that is free)")
	f.StringVar(&want.scheme, "scheme", "http", "what it speaks: http or https")
	f.StringVar(&want.host, "host", "", "full name that clients dial (default: NAME in the site's zone)")
	f.StringVar(&want.address, "ip", "", "address of the container (default: the first that is free)")
	f.StringVar(&want.cloneOf, "clone-from", "", "id of the container that it is cloned from (default: as the others)")
	cmd.RunE = a.command(func(ctx context.Context, args []string) error {
		want.given = func(flag string) bool { return f.Changed(flag) }
		return a.addApp(ctx, args[0], want)
	})
	add := &cobra.Command{Use: "add", Short: "put an application into the configuration"}
	add.AddCommand(cmd)
	return group(add)
}

func (a *app) removeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "app NAME", Short: "an application: its container, route and names",
		Long: `remove app takes an application out of the files of the configuration: its container, its
route and the records of its names. The container and its volumes stay as they are; it
says which phoenix delete is left to do. A second run changes nothing.`,
		Example: `  phoenix remove app wiki`,
		Args:    oneApp, ValidArgsFunction: a.completeApps,
		RunE: a.command(func(ctx context.Context, args []string) error { return a.removeApp(ctx, args[0]) }),
	}
	remove := &cobra.Command{Use: "remove", Short: "take an application out of the configuration; destroys nothing"}
	remove.AddCommand(cmd)
	return group(remove)
}

// oneApp is for commands that take the name of an application.
func oneApp(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && appShape.MatchString(args[0]) {
		return nil
	}
	err := fmt.Errorf("%s takes one name, and got %d", cmd.CommandPath(), len(args))
	if len(args) == 1 {
		err = fmt.Errorf("%s cannot be the name of an application", strconv.Quote(clean.Line(args[0], 100)))
	}
	return &usageError{err: err, hint: "lower-case letters, digits and -, such as: " + cmd.CommandPath() + " wiki"}
}

// wanted checks the flags, and asks for the port where somebody can be asked.
func (a *app) wanted(name string, want appWish) (config.NewApp, error) {
	n := config.NewApp{Name: name, Port: want.port, Scheme: want.scheme, Host: strings.TrimSuffix(want.host, "."),
		CloneFrom: want.cloneOf}
	var all error
	wrong := func(format string, args ...any) { all = errors.Join(all, fmt.Errorf(format, args...)) }
	if !want.given("port") && interactive(a.stdin) {
		said, err := a.asker()("port that "+name+" listens at", "80")
		if err != nil {
			return n, &usageError{err: err, hint: "--port 8080"}
		}
		n.Port, _ = strconv.Atoi(said) // what is no number is no port
	}
	if n.Port < 1 || n.Port > 65535 {
		wrong("--port takes a port from 1 to 65535, such as 8080")
	}
	if want.given("id") {
		if n.ID = strconv.Itoa(want.id); want.id < 100 || want.id > 999_999_999 {
			wrong("--id takes a number from 100 to 999999999")
		}
	}
	if !slices.Contains([]string{"http", "https"}, n.Scheme) {
		wrong("--scheme takes http or https")
	}
	if want.given("host") && !zoneShape.MatchString(strings.ToLower(n.Host)) {
		wrong("--host: %s is no full name", strconv.Quote(clean.Line(want.host, 100)))
	}
	if want.given("ip") {
		var err error
		if n.Address, err = netip.ParseAddr(want.address); err != nil || !n.Address.Is4() {
			wrong("--ip: %s is no IPv4 address", strconv.Quote(clean.Line(want.address, 100)))
		}
	}
	if all != nil {
		return n, &usageError{err: all, hint: "phoenix add app --help has the flags; nothing was written"}
	}
	return n, nil
}

func (a *app) addApp(ctx context.Context, name string, want appWish) error {
	n, err := a.wanted(name, want)
	if err != nil {
		return err
	}
	f, err := a.readFiles()
	if err != nil {
		return err
	}
	if n.Taken, err = a.takenIDs(n.ID); err != nil {
		return err
	}
	edit, diags := config.AddApp(f.list, n)
	if diags.HasErrors() {
		return diags.Err()
	}
	doc := view.Edited{App: name, Container: edit.ID, Address: edit.Address, Hosts: edit.Hosts}
	where := fmt.Sprintf("%s is container %s at %s port %d, and https://%s", name, edit.ID, edit.Address, n.Port,
		edit.Hosts[0])
	if doc.Said = "already so: " + where + "; nothing was changed"; edit.Changed() {
		doc.Said = "added: " + where
		doc.Next = []string{a.again("up") + "    # makes it, and checks all"}
	}
	return a.edit(ctx, f, edit, doc)
}

func (a *app) removeApp(ctx context.Context, name string) error {
	f, err := a.readFiles()
	if err != nil {
		return err
	}
	edit, diags := config.RemoveApp(f.list, name)
	if diags.HasErrors() {
		return diags.Err()
	}
	doc := view.Edited{App: name, Container: edit.ID, Address: edit.Address, Hosts: edit.Hosts,
		Said: "no application " + name + " is in the configuration; nothing was changed"}
	if edit.ID != "" {
		doc.Said = fmt.Sprintf("removed from the configuration: %s (%s); container %s and its volumes stay as they are",
			name, strings.Join(edit.Hosts, ", "), edit.ID)
		doc.Next = []string{a.again("up") + "    # takes its names and its route away"}
	}
	return a.edit(ctx, f, edit, doc)
}

// edit writes the files of an edit, and shows it. The result is read as every command would read it before anything is
// written.
func (a *app) edit(ctx context.Context, f files, edit config.AppEdit, doc view.Edited) error {
	after := files{directories: f.directories}
	for _, x := range edit.Files {
		after.list = append(after.list, config.File{Name: x.Name, Data: x.New})
		if !bytes.Equal(x.Old, x.New) {
			doc.Files = append(doc.Files,
				view.MigratedFile{File: x.Name, Diff: string(diff.Diff(x.Name, x.Old, x.Name, x.New))})
		}
	}
	if doc.Changed = len(doc.Files) > 0; !doc.Changed {
		a.view.Edited(doc)
		return nil
	}
	if _, err := a.loadFiles(after); err != nil {
		return err
	}
	for _, x := range edit.Files {
		if err := a.unchanged(x); err != nil {
			return err
		}
	}
	for _, x := range edit.Files {
		if edit.Removed && x.Name == edit.Containers {
			kept, err := a.replaceFile(x)
			if err != nil {
				return err
			}
			doc.Next = append(doc.Next, a.deleteRemoved(edit, kept))
		} else if err := a.rewriteFile(x); err != nil {
			return err
		}
	}
	doc.Result, doc.Unplanned = a.planUp(ctx)
	a.view.Edited(doc)
	return nil
}

// deleteRemoved is the command that deletes a container that is not in the configuration any more: with the file that
// has it, which is kept for that.
func (a *app) deleteRemoved(edit config.AppEdit, kept string) string {
	old := &app{opts: a.opts}
	old.opts.config = []string{kept}
	for _, x := range edit.Files {
		if x.Name != edit.Containers {
			old.opts.config = append(old.opts.config, x.Name)
		}
	}
	return old.again("delete "+edit.ID) + "    # removes the container, if there is one; volumes stay"
}

// unchanged refuses a file that is another than the one that was read.
func (a *app) unchanged(f config.MigratedFile) error {
	now, err := a.host.ReadFile(followed(f.Name))
	if err == nil && !bytes.Equal(now, f.Old) {
		err = hint("run it again", "%s changed while it was edited; it was left as it is", f.Name)
	}
	return err
}

// rewriteFile puts a file in the place of the old one, with its mode and owner. A link stays one.
func (a *app) rewriteFile(f config.MigratedFile) error {
	if bytes.Equal(f.Old, f.New) {
		return nil
	}
	path := followed(f.Name)
	meta, err := a.host.Lstat(path)
	if err != nil {
		return err
	}
	if err := a.unchanged(f); err != nil {
		return err
	}
	return a.host.WriteFile(path, f.New, meta.Mode.Perm(), host.Owner{UID: meta.UID, GID: meta.GID})
}

// takenIDs are the ids that this machine has besides those of the files, and where. What is left of a container of this
// root is given to another by its id only.
func (a *app) takenIDs(wanted string) (map[string]string, error) {
	runtime, err := a.runtime()
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, directory := range []string{"lxc", "volumes"} {
		for _, name := range a.namesIn(filepath.Join(a.opts.root, directory)) {
			if name != wanted {
				out[name] = filepath.Join(a.opts.root, directory, name)
			}
		}
	}
	if runtime == "pve" {
		guests := &surroundings{ids: map[int]bool{}}
		a.lookAtGuests(guests)
		for id := range guests.ids {
			out[strconv.Itoa(id)] = "a guest of this Proxmox host or its cluster has it"
		}
	}
	return out, nil
}

// completeApps offers the names of applications.
func (a *app) completeApps(_ *cobra.Command, given []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for _, c := range a.completable() {
		app := c.TraefikService != nil && !c.IsCA() && !c.IsGateway() && !c.IsProxy()
		if app && len(given) == 0 && strings.HasPrefix(c.Name, prefix) {
			out = append(out, c.Name+"\t"+c.ID)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

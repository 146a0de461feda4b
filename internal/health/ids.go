package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func (m *model) ids(o object.Object, s spec.IDRange) { m.add(kindOwnIDs, o, "", s) }

// runOwnIDs looks whether a container's range of ids is its own: no user's of the hypervisor, and given to no other
// container.
func runOwnIDs(_ context.Context, h host.Host, c Check, s spec.IDRange) Result {
	r := s.IDMap
	if s.Now != nil {
		r = *s.Now
	}
	var files idrange.Files
	for i, path := range idrange.Paths {
		b, err := h.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return c.fail("it is not known who has which ids", err.Error(), "see why root cannot read "+path)
		}
		files[i] = string(b)
	}
	fix := c.apply() + " --yes"
	if s.Held != "" {
		fix = s.Held
	}
	if others := idrange.Others(files.Claims(), r); len(others) > 0 {
		return c.fail(fmt.Sprintf("%s can become any user of the container, and read and change its files",
			others[0].Who),
			fmt.Sprintf("ids %s; %s", idrange.Text(r), others[0]), fix)
	}
	switch {
	case s.Held != "":
		return c.pass("its ids are no user's, but other containers' too until the migration is over",
			idrange.Text(r)+"; "+s.Held)
	case s.Now != nil && *s.Now == spec.IDMap{}:
		return c.fail("it is privileged: root in it is root on the hypervisor", "no id map", fix)
	case s.Now != nil:
		return c.fail("its ids are not its own: root in another container that has them owns its files",
			idrange.Text(r), fix)
	}
	return givenTo(h, c, s, r)
}

// givenTo looks whose range it is by the links that say so.
func givenTo(h host.Host, c Check, s spec.IDRange, r spec.IDMap) Result {
	link := filepath.Join(s.Claims, strconv.Itoa(r.Base))
	target, err := h.Readlink(link)
	config := filepath.Join(s.Path, s.ID, "config")
	if s.Proxmox != nil {
		config = filepath.Join(s.Path, s.ID+".conf")
	}
	_, thereErr := h.Lstat(config)
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.Is(thereErr, fs.ErrNotExist):
		return c.unasked("its ids were not looked at: there is no container", thereErr.Error())
	case errors.Is(err, fs.ErrNotExist):
		return c.fail("nothing says that its ids are its own: another container may be given them",
			link+" is not there", c.apply())
	case err != nil:
		return c.fail("whose its ids are cannot be read", err.Error(), c.apply())
	case target != filepath.Join(s.Path, s.ID):
		return c.fail("its ids are another container's too", link+" leads to "+strings.TrimSpace(target),
			c.apply()+" --yes")
	}
	return c.pass("its ids are its own", idrange.Text(r))
}

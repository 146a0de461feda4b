package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// nft keeps tables as the text that they were made with.
func (m *memoryHost) nft(c host.Command) (string, error) {
	file := func(family, table string) string { return filepath.Join("/nft", family, table) }
	switch args := c.Argv[1:]; args[0] {
	case "--stateless": // list
		if name := args[len(args)-1]; len(args) < 5 || args[1] == "--terse" {
			return m.listings(name), nil
		}
		raw, err := m.ReadFile(file(args[3], args[4]))
		if err != nil {
			err = errors.New("Error: No such file or directory")
		}
		return string(raw), err
	case "--file":
		for _, text := range strings.SplitAfter(string(c.Stdin), "\n}\n") {
			_, text, _ = strings.Cut("\n"+text, "\ntable ")
			for strings.Contains(text, "\ntable ") { // those that go first
				_, text, _ = strings.Cut(text, "\ntable ")
			}
			if f := strings.Fields(text); len(f) > 2 && f[2] == "{" {
				m.put(file(f[0], f[1]), []byte("table "+text), 0o600, host.Root)
			}
		}
	case "add": // chain
		raw, err := m.ReadFile(file(args[2], args[3]))
		if err != nil {
			return "", err
		}
		text := strings.TrimSuffix(string(raw), "}\n") + "\n\tchain " + args[4] + " {\n\t}\n}\n"
		m.put(file(args[2], args[3]), []byte(text), 0o600, host.Root)
	}
	return "", nil
}

// listings are the tables of a family, or the names of all.
func (m *memoryHost) listings(of string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	for path, f := range m.files {
		rest, table := strings.CutPrefix(path, "/nft/")
		family, name, _ := strings.Cut(rest, "/")
		switch {
		case table && of == "tables":
			fmt.Fprintf(&b, "table %s %s\n", family, name)
		case table && of == family:
			b.Write(f.data)
		}
	}
	return b.String()
}

// batch reads lines of ip(8).
func (m *memoryHost) batch(lines string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		switch {
		case f[1] == "add" && f[0] == "link":
			m.links[f[3]] = &memoryLink{mac: f[5], kind: f[7]}
		case f[0] == "address":
			m.links[f[4]].address = f[2]
		case f[4] == "alias":
			m.links[f[3]].alias = f[5]
		}
	}
	return nil
}

func (m *memoryHost) show(name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.links[name] == nil {
		return "", fmt.Errorf("Device %q does not exist.", name)
	}
	return "[" + m.links[name].json(name) + "]", nil
}

func (m *memoryHost) showAll() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for name, l := range m.links {
		all = append(all, l.json(name))
	}
	return "[" + strings.Join(all, ",") + "]", nil
}

func (l *memoryLink) json(name string) string {
	address, length, _ := strings.Cut(l.address, "/")
	if length == "" {
		length = "0"
	}
	return fmt.Sprintf(`{"ifname":%q,"flags":["UP"],"ifalias":%q,"address":%q,"master":%q,"linkinfo":{"info_kind":%q},`+
		`"addr_info":[{"local":%q,"prefixlen":%s,"scope":"global"}]}`,
		name, l.alias, l.mac, l.master, l.kind, address, length)
}

func (m *memoryHost) dnsmasq(args []string) error {
	conf, ok := strings.CutPrefix(args[0], "--conf-file=")
	if !ok {
		return nil // a test of the file
	}
	content, err := m.ReadFile(conf)
	if err != nil {
		return err
	}
	_, after, _ := strings.Cut(string(content), "pid-file=")
	pidFile, _, _ := strings.Cut(after, "\n")
	pid := m.process("cmdline", "dnsmasq\x00"+args[0])
	m.put(pidFile, []byte(strconv.Itoa(pid)), 0o644, host.Root)
	return nil
}

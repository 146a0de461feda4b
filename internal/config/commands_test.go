package config

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Where a program that phoenix calls comes from. A Debian package is named by setup; the others are there.
const (
	basic     = "basic"     // essential on Debian, so also on Proxmox and in containers
	container = "container" // called inside of containers only, where objects of packages bring it
	ofProxmox = "proxmox"   // of Proxmox itself
)

// programs are all that phoenix may call, with what brings each on a plain LXC host and on a Proxmox host. A missing
// place means that it is not called there.
var programs = map[string]struct{ lxc, pve string }{
	"btrfs": {lxc: "btrfs-progs"}, "cp": {basic, basic}, "cat": {basic, basic}, "chroot": {basic, basic},
	"dnsmasq":    {"dnsmasq-base", "dnsmasq-base"},
	"dpkg-query": {basic, basic}, "apt-get": {basic, basic}, "env": {basic, basic}, "find": {basic, basic},
	"flock": {basic, basic}, "getent": {basic, basic},
	"head": {basic, basic}, "install": {basic, basic}, "ip": {"iproute2", ofProxmox}, "journalctl": {basic, basic},
	"kill":       {basic, basic},
	"lxc-attach": {"lxc", ofProxmox}, "lxc-info": {"lxc", ofProxmox}, "lxc-start": {lxc: "lxc"},
	"lxc-stop": {lxc: "lxc"}, "lxc-freeze": {lxc: "lxc"},
	"lxc-unfreeze": {lxc: "lxc"}, "lxc-usernsexec": {lxc: "lxc"}, "mmdebstrap": {"mmdebstrap", "mmdebstrap"},
	"modprobe": {basic, basic},
	"mount":    {basic, basic}, "nft": {lxc: "nftables"}, "nginx": {container, container}, "nsenter": {basic, basic},
	"openssl": {"ca-certificates", ofProxmox},
	"pct":     {pve: ofProxmox}, "pve-firewall": {pve: ofProxmox}, "pvesm": {pve: ofProxmox}, "rm": {basic, basic},
	"rmdir": {basic, basic}, "sh": {basic, basic},
	"stat": {basic, basic}, "sync": {basic, basic}, "sysctl": {basic, basic}, "systemctl": {basic, basic},
	"systemd-analyze": {basic, basic},
	"tar":             {basic, basic}, "test": {basic, basic}, "touch": {basic, basic}, "true": {basic, basic},
	"umount": {basic, basic}, "unshare": {basic, basic},
	"update-ca-certificates": {"ca-certificates", ofProxmox}, "useradd": {container, container},
	"groupadd": {container, container},
	"usermod":  {container, container}, "zfs": {"zfsutils-linux", ofProxmox}, "zpool": {"zfsutils-linux", ofProxmox},
	"newuidmap": {lxc: "uidmap"},
	// the last two of pct
	"bash": {basic, basic}, "realpath": {basic, basic}, "create": {pve: ofProxmox}, "snapshot": {pve: ofProxmox},
	"lxc-autostart": {lxc: "lxc"}, "runuser": {basic, basic}, "mv": {basic, basic}, "ln": {basic, basic},
	"chmod": {basic, basic},
	"chown": {basic, basic}, "shred": {basic, basic}, "mkdir": {basic, basic}, "mknod": {basic, basic}, "swapoff": {basic, basic},
	"setpriv": {basic, basic}, "apt-config": {basic, basic}, "timedatectl": {basic, basic},
}

// command is what the name of a program looks like.
var command = regexp.MustCompile(`^[a-z][a-z0-9-]+$`)

// commands are the programs that the code of the module calls: the first words of what is given to a host.Command as
// its Argv, of slices that are called argv, and of those that functions called …Argv return.
func commands(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") ||
			strings.Contains(file, "/conformance/") ||
			strings.Contains(file, "/sandbox/") {
			return err
		}
		fset := token.NewFileSet()
		parsed, err := goparser.ParseFile(fset, file, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			var value ast.Expr
			switch x := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := x.Key.(*ast.Ident); ok && key.Name == "Argv" {
					value = x.Value
				}
			case *ast.AssignStmt:
				if name, ok := x.Lhs[0].(*ast.Ident); ok && name.Name == "argv" {
					value = x.Rhs[0]
				}
			case *ast.FuncDecl:
				if strings.HasSuffix(strings.ToLower(x.Name.Name), "argv") && x.Body != nil {
					value = &ast.FuncLit{Type: x.Type, Body: x.Body}
				}
			}
			if value != nil {
				firstWords(value, func(word string, at token.Pos) { out[word] = fset.Position(at).String() })
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// firstWords finds the first words of lists of strings in an expression.
func firstWords(e ast.Node, found func(string, token.Pos)) {
	ast.Inspect(e, func(n ast.Node) bool {
		list, ok := n.(*ast.CompositeLit)
		if !ok || len(list.Elts) == 0 {
			return true
		}
		if array, ok := list.Type.(*ast.ArrayType); !ok || array.Len != nil {
			return true
		}
		if first, ok := list.Elts[0].(*ast.BasicLit); ok && first.Kind == token.STRING {
			if word, err := strconv.Unquote(first.Value); err == nil && command.MatchString(word) {
				found(word, first.Pos())
			}
		}
		return false
	})
}

// Every program that phoenix calls is basic, Proxmox's own, or in a package that setup asks for: else it is missing on
// some machine, as getfattr was on every Proxmox host.
func TestEveryCommandIsInstalled(t *testing.T) {
	called := commands(t)
	if len(called) < 20 {
		t.Fatalf("only %d programs were found, which proves nothing: %v", len(called), called)
	}
	for _, known := range []string{"pct", "sh", "systemctl", "ip", "dnsmasq"} {
		if called[known] == "" {
			t.Errorf("%s was not found in the code: the test looks at the wrong places", known)
		}
	}
	plain, host := machine, proxmox(machine, "zfspool: tank\n\tpool tank\n\tcontent rootdir\n")
	plain.Backend, plain.Pools = "btrfs", map[string]string{"tank": "zfs"}
	for runtime, m := range map[string]Machine{"lxc": plain, "pve": host} {
		m.Present = present(nil)
		d := &derivation{cfg: homelab(t), machine: m, house: survey(homelab(t))}
		packages := d.packageNames()
		for _, name := range slices.Sorted(maps.Keys(called)) {
			p, known := programs[name]
			from := map[string]string{"lxc": p.lxc, "pve": p.pve}[runtime]
			switch {
			case !known:
				t.Errorf("%s: nobody says where %s comes from (programs, and the packages of setup)", called[name],
					name)
			case slices.Contains([]string{"", basic, container, ofProxmox}, from), slices.Contains(packages, from):
			default:
				t.Errorf("%s: %s is of the package %s, which setup does not ask for with %s: %q", called[name], name,
					from, runtime, packages)
			}
		}
	}
}

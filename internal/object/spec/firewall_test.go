package spec

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "any": "", "0.0.0.0/0": "", "::/0": "", "0.0.0.0-255.255.255.255": "", "0.0.0.0/1,128.0.0.0/1": "",
		"10.0.0.12": "10.0.0.12", "10.0.0.12/32": "10.0.0.12", "10.0.0.77/24": "10.0.0.0/24",
		" 10.0.0.2 , 10.0.0.1 ": "10.0.0.1,10.0.0.2",
		"10.0.0.1,10.0.0.1":     "10.0.0.1", "10.0.0.0/24,10.0.0.5": "10.0.0.0/24", "10.0.0.0,10.0.0.1": "10.0.0.0/31",
		"10.0.0.1-10.0.0.6":               "10.0.0.1,10.0.0.2/31,10.0.0.4/31,10.0.0.6",
		"255.255.255.254-255.255.255.255": "255.255.255.254/31",
		"10.0.0.300":                      "bad", "10.0.0.9-10.0.0.1": "bad", "host": "bad", "10.0.0.0/33": "bad",
		"fe80::1":    "bad",
		"10.0.0.1,,": "bad", "+set": "bad",
	} {
		got, err := Addresses(in)
		if err != nil {
			got = "bad"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "80": "80", "443,80": "80,443", "80,81,82": "80:82", "8000:8010,8005": "8000:8010", "ssh": "22",
		"HTTP,https": "80,443", "0:65535": "", " 80 : 90 ": "80:90",
		"70000": "bad", "-1": "bad", "+80": "bad", "90:80": "bad", "eighty": "bad", ",": "bad", "80-90": "bad",
	} {
		got, err := Ports(in)
		if err != nil {
			got = "bad"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// What is written is read as the same, means the same addresses and no others, and is written the same again.
func FuzzAddresses(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "10.0.0.0/24,10.0.0.5-10.0.1.9", "0.0.0.0-255.255.255.255",
		"1.2.3.4/0", "a,b"} {
		f.Add(s, uint32(0x0a000005))
	}
	f.Fuzz(func(t *testing.T, text string, sample uint32) {
		got, err := Addresses(text)
		if err != nil {
			return
		}
		if again, err := Addresses(got); err != nil || again != got {
			t.Fatalf("%q: %q became %q, %v", text, got, again, err)
		}
		if anywhere(text) {
			return
		}
		before, _ := addressSpans(text)
		for _, s := range append(before, Span{sample, sample}) {
			for _, n := range []uint32{s.First, s.Last, s.First - 1, s.Last + 1} {
				in := slices.ContainsFunc(before, func(s Span) bool { return s.First <= n && n <= s.Last })
				if listed := got == "" || covered(got, address(n)); listed != in {
					t.Fatalf("%q as %q: %s is in %t, was %t", text, got, address(n), listed, in)
				}
			}
		}
	})
}

// covered looks an address up without the code under test.
func covered(list string, a netip.Addr) bool {
	return slices.ContainsFunc(strings.Split(list, ","), func(part string) bool {
		if p, err := netip.ParsePrefix(part); err == nil {
			return p.Contains(a)
		}
		return part == a.String()
	})
}

func FuzzPorts(f *testing.F) {
	for _, s := range []string{"80", "80,443,8000:8010", "ssh", "0:65535", "1,2,3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Ports(text)
		if err != nil {
			return
		}
		if again, err := Ports(got); err != nil || again != got {
			t.Fatalf("%q: %q became %q, %v", text, got, again, err)
		}
	})
}

// small is a world with few of everything, so that rules meet.
func small(r *rand.Rand) Rule {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	rule := Rule{Direction: pick(In, In, Out), Action: pick(Accept, Accept, Drop), Proto: pick("", "tcp", "udp"),
		Source: pick("", "10.0.0.1", "10.0.0.0/30", "10.0.0.2/31", "10.0.0.1,10.0.0.3"),
		Dest:   pick("", "", "10.0.0.2", "10.0.0.2/31")}
	if rule.Proto != "" {
		rule.Ports = pick("", "80", "80:82", "80,82", "81")
	}
	return rule
}

// packets are all that there are in that world.
func packets(do func(direction, proto, from, to string, port int)) {
	for _, direction := range []string{In, Out} {
		for _, proto := range []string{"tcp", "udp", "icmp"} {
			for from := range 4 {
				for to := range 4 {
					for port := 80; port < 83; port++ {
						do(direction, proto, "10.0.0."+strconv.Itoa(from), "10.0.0."+strconv.Itoa(to), port)
					}
				}
			}
		}
	}
}

// fits looks at one packet, without the code under test.
func (r Rule) fits(direction, proto, from, to string, port int) bool {
	ports := r.Ports == "" || slices.ContainsFunc(strings.Split(r.Ports, ","), func(p string) bool {
		first, last, ranged := strings.Cut(p, ":")
		if !ranged {
			last = first
		}
		low, _ := strconv.Atoi(first)
		high, _ := strconv.Atoi(last)
		return low <= port && port <= high
	})
	return r.Direction == direction && (r.Proto == "" || r.Proto == proto) && ports &&
		(r.Source == "" || covered(r.Source, netip.MustParseAddr(from))) &&
		(r.Dest == "" || covered(r.Dest, netip.MustParseAddr(to)))
}

// Verdict, Covers and Meets are what they are by trying every packet.
func TestRulesByEveryPacket(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	covers, meets := 0, 0
	for range 2000 {
		f := Firewall{}
		for range 1 + r.IntN(4) {
			f.Rules = append(f.Rules, small(r))
		}
		a, b := f.Rules[0], small(r)
		inside, common := true, false
		packets(func(direction, proto, from, to string, port int) {
			fitsA, fitsB := a.fits(direction, proto, from, to, port), b.fits(direction, proto, from, to, port)
			inside = inside && (!fitsB || fitsA)
			common = common || fitsA && fitsB
			if proto == "icmp" {
				return
			}
			want := map[string]string{In: Drop, Out: Accept}[direction]
			if i := slices.IndexFunc(f.Rules,
				func(x Rule) bool { return x.fits(direction, proto, from, to, port) }); i >= 0 {
				want = f.Rules[i].Action
			}
			if got, known := f.Verdict(direction, proto, from, to, port); got != want || !known {
				t.Fatalf("%+v: %s %s %s %s %d: %s, want %s", f.Rules, direction, proto, from, to, port, got, want)
			}
		})
		// Outside of the small world there is more: what covers all of it need not cover all.
		if a.Covers(b) {
			covers++
			if !inside {
				t.Fatalf("%q does not cover %q", a.Meaning(), b.Meaning())
			}
		}
		if a.Meets(b) {
			meets++
		} else if common {
			t.Fatalf("%q meets %q", a.Meaning(), b.Meaning())
		}
	}
	if covers < 50 || meets < 500 {
		t.Errorf("only %d cover, %d meet", covers, meets)
	}
}

// What nobody can read decides nothing for sure.
func TestVerdictUnknown(t *testing.T) {
	last := Rule{Direction: In, Action: Accept, Proto: "tcp", Ports: "80"}
	for _, first := range []Rule{{Direction: Group, Action: "ours"}, {Direction: In, Action: Accept, Macro: "SSH"},
		{Direction: In, Action: Drop, Source: "+bad"},
		{Direction: In, Action: Drop, Proto: "tcp", SourcePorts: "1:1023"}} {
		if _, known := (Firewall{Rules: []Rule{first, last}}).Verdict(In, "tcp", "10.0.0.1", "10.0.0.2", 80); known {
			t.Errorf("%q: known", first.Meaning())
		}
	}
	for _, first := range []Rule{{Direction: In, Action: Drop, Source: "+bad", Proto: "udp"},
		{Direction: In, Action: Drop, Proto: "tcp", Ports: "22", SourcePorts: "1:1023"}} {
		if got, known := (Firewall{Rules: []Rule{first, last}}).Verdict(In, "tcp", "10.0.0.1", "10.0.0.2",
			80); !known || got != Accept {
			t.Errorf("%q: %s, %t", first.Meaning(), got, known)
		}
	}
}

// A comment means nothing, everything else does.
func TestMeaning(t *testing.T) {
	full := Rule{"in", "ACCEPT", "SSH", "tcp", "10.0.0.1", "10.0.0.2", "1:2", "3", "8", "net0", "info", "why"}
	seen := map[string]bool{full.Meaning(): true}
	for _, change := range []func(*Rule){
		func(r *Rule) {
			r.Direction = "out"
		}, func(r *Rule) { r.Action = "DROP" }, func(r *Rule) { r.Macro = "" }, func(r *Rule) { r.Proto = "" },
		func(r *Rule) {
			r.Source = ""
		}, func(r *Rule) { r.Dest = "" }, func(r *Rule) { r.SourcePorts = "" }, func(r *Rule) { r.Ports = "" },
		func(r *Rule) { r.ICMPType = "" }, func(r *Rule) { r.Interface = "" }, func(r *Rule) { r.Log = "" },
	} {
		r := full
		change(&r)
		if seen[r.Meaning()] {
			t.Errorf("%q twice", r.Meaning())
		}
		seen[r.Meaning()] = true
	}
	other := full
	other.Comment = "another"
	if other.Meaning() != full.Meaning() {
		t.Error("the comment means something")
	}
}

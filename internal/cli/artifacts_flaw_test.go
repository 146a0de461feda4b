package cli

import (
	"strings"
	"testing"
)

// What the kernel could never run is told when the files are read, not when everything waits for it.
func TestFlaw(t *testing.T) {
	for content, want := range map[string]string{
		"#!/bin/sh\nexit 0\n":       "",
		"#! /usr/bin/env python3\n": "",
		"#!/bin/sh -e\nexit\r\n":    "",
		"\x7fELF\x02":               "",
		"#!/bin/sh\r\nexit 0\r\n":   "carriage return",
		"echo hello\n":              "#!/bin/sh",
		"":                          "#!/bin/sh",
		"\ufeff#!/bin/sh\n":         "#!/bin/sh",
		"#!\n":                      "no interpreter",
		"#!sh\n":                    "no interpreter",
		"#!/" + strings.Repeat("x", 1000) + "\r\n\n": "",
	} {
		if got := flaw([]byte(content)); got != want && (want == "" || !strings.Contains(got, want)) {
			t.Errorf("%.30q: %q, want %q", content, got, want)
		}
	}
}

package view

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// junit writes the audit as JUnit XML, one test case a finding, and all else as text.
type junit struct{ *people }

type junitSuites struct {
	XMLName xml.Name   `xml:"testsuites"`
	Suite   junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr,omitempty"`
	Line    int           `xml:"line,attr,omitempty"`
	Failure *junitFailure `xml:"failure,omitempty"`
	Skipped *junitSkipped `xml:"skipped,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

type junitSkipped struct {
	Message string `xml:"message,attr"`
}

func (v *junit) Audit(a Audit) {
	s := junitSuite{Name: "phoenix audit"}
	for _, f := range a.Findings {
		c := junitCase{Class: f.Rule, Name: f.place() + ": " + f.about(), File: f.File, Line: f.Line}
		if f.Accepted != nil {
			c.Skipped = &junitSkipped{"accepted until " + f.Accepted.Until + ": " + f.Accepted.Reason}
			s.Skipped++
		} else {
			c.Failure = &junitFailure{f.Summary, f.Severity, f.Why + "\nfix: " + f.Fix}
			s.Failures++
		}
		s.Cases = append(s.Cases, c)
	}
	for _, n := range a.NotSeen {
		s.Cases = append(s.Cases, junitCase{Class: "not seen", Name: n.Object, Skipped: &junitSkipped{n.Reason}})
		s.Skipped++
	}
	if len(s.Cases) == 0 {
		s.Cases = []junitCase{{Class: "phoenix audit", Name: "no finding"}}
	}
	s.Tests = len(s.Cases)
	b, err := xml.MarshalIndent(junitSuites{Suite: s}, "", "  ")
	if err != nil {
		fmt.Fprintf(v.Err, "error: the result could not be written: %v\n", err)
		return
	}
	fmt.Fprintln(v.Out, strings.TrimSpace(xml.Header)+"\n"+string(b))
}

package view

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
)

// sarif writes the audit as SARIF 2.1.0 (OASIS, section numbers below), and all else as text to standard error.
type sarif struct{ *people }

type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool        sarifTool     `json:"tool"`
	Results     []sarifResult `json:"results"` // 3.14.23: present, and empty where nothing was found
	Invocations []sarifCall   `json:"invocations"`
}

type sarifTool struct {
	Driver sarifDriver `json:"driver"`
}

type sarifDriver struct {
	Name    string      `json:"name"`
	Version string      `json:"version,omitempty"`
	Rules   []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID         string            `json:"id"`
	Short      sarifText         `json:"shortDescription"`
	Full       sarifText         `json:"fullDescription"`
	Default    sarifLevel        `json:"defaultConfiguration"`
	Properties map[string]string `json:"properties"`
}

type sarifLevel struct {
	Level string `json:"level"`
}

type sarifText struct {
	Text string `json:"text"`
}

type sarifResult struct {
	RuleID       string             `json:"ruleId"`
	RuleIndex    int                `json:"ruleIndex"`
	Level        string             `json:"level"`
	Message      sarifText          `json:"message"`
	Locations    []sarifLocation    `json:"locations"`
	Suppressions []sarifSuppression `json:"suppressions,omitempty"`
}

type sarifLocation struct {
	Physical *sarifPhysical `json:"physicalLocation,omitempty"`
	Logical  []sarifLogical `json:"logicalLocations"`
}

type sarifPhysical struct {
	Artifact sarifArtifact `json:"artifactLocation"`
	Region   *sarifRegion  `json:"region,omitempty"`
}

type sarifArtifact struct {
	URI string `json:"uri"`
}

type sarifRegion struct {
	StartLine int `json:"startLine"`
}

type sarifLogical struct {
	FullyQualifiedName string `json:"fullyQualifiedName"`
}

type sarifSuppression struct {
	Kind          string `json:"kind"`
	Status        string `json:"status"`
	Justification string `json:"justification"`
}

type sarifCall struct {
	Successful    bool        `json:"executionSuccessful"`
	Notifications []sarifNote `json:"toolExecutionNotifications,omitempty"`
}

type sarifNote struct {
	Level   string    `json:"level"`
	Message sarifText `json:"message"`
}

// sarifSeverity are the number that code scanners rank by, and the level (3.27.10).
var sarifSeverity = map[string]struct{ level, score string }{
	"critical": {"error", "9.5"}, "high": {"error", "8.0"}, "medium": {"warning", "5.0"}, "low": {"note", "2.0"},
}

func (v *sarif) Audit(a Audit) {
	run := sarifRun{Results: []sarifResult{},
		Tool: sarifTool{sarifDriver{Name: "phoenix", Version: a.Version, Rules: []sarifRule{}}}}
	index := map[string]int{}
	for _, f := range a.Findings {
		i, known := index[f.Rule]
		if !known {
			i = len(run.Tool.Driver.Rules)
			index[f.Rule] = i
			s := sarifSeverity[f.Severity]
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules,
				sarifRule{f.Rule, sarifText{f.Title}, sarifText{f.Why}, sarifLevel{s.level},
					map[string]string{"security-severity": s.score}})
		}
		run.Results = append(run.Results, sarifFinding(f, i))
	}
	call := sarifCall{Successful: true}
	for _, n := range a.NotSeen {
		call.Notifications = append(call.Notifications,
			sarifNote{"warning", sarifText{"not seen: " + n.Object + ": " + n.Reason}})
	}
	run.Invocations = []sarifCall{call}
	enc := json.NewEncoder(v.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0",
		[]sarifRun{run}}); err != nil {
		fmt.Fprintf(v.Err, "error: the result could not be written: %v\n", err)
	}
}

func sarifFinding(f Finding, rule int) sarifResult {
	r := sarifResult{RuleID: f.Rule, RuleIndex: rule, Level: sarifSeverity[f.Severity].level,
		Message: sarifText{f.Summary + ". Fix: " + f.Fix}}
	at := sarifLocation{Logical: []sarifLogical{{f.Object}}}
	if f.Path != "" {
		at.Logical = []sarifLogical{{f.Path}}
	}
	if f.File != "" {
		at.Physical = &sarifPhysical{Artifact: sarifArtifact{fileURI(f.File)}}
		if f.Line > 0 {
			at.Physical.Region = &sarifRegion{f.Line}
		}
	}
	r.Locations = []sarifLocation{at}
	if f.Accepted != nil {
		r.Suppressions = []sarifSuppression{{"external", "accepted",
			f.Accepted.Reason + " (until " + f.Accepted.Until + ")"}}
	}
	return r
}

// fileURI is a file as a URI reference (3.4.3): relative where the path is.
func fileURI(file string) string {
	u := url.URL{Path: filepath.ToSlash(file)}
	if filepath.IsAbs(file) {
		u.Scheme = "file"
	}
	return u.String()
}

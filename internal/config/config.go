// Package config reads the users' files: JSON to a checked Config, with every problem told at once and each with its
// file, line, path and a hint. It is pure: no I/O, no clock. Audit findings are diagnostics with a rule id, see Rules.
package config

// Package pve runs the whole program on a fake Proxmox host: a few containers from nothing, killed anywhere, day to
// day.
package pve

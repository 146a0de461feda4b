// Package pve keeps system containers on a Proxmox VE host.
package pve

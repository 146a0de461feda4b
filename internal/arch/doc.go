// Package arch has the house rules that a compiler does not know, as tests: who may import whom, which packages are
// pure, who starts goroutines and who runs commands.
package arch

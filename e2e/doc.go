// Package e2e proves the whole program on real processes: it runs `understudy up` as a user would,
// breaks it, and asks clients, files and /proc what they saw.
package e2e

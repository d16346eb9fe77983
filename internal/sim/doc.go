// Package sim is the deterministic simulator.
package sim

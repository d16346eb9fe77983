// Package engine measures the storage engine against the file system: each
// work is done by bitcask and by the least that could do the same job (a floor:
// plain appends and preads to as many files, of the same bytes under the same
// checksums), in alternating pairs whose order is swapped from pair to pair. A
// result is the median, with quartiles, of the pairs' ratios: on a busy machine
// absolute figures mean little, and the ratio to what ran a moment before or
// after means something. CPU seconds a GiB stand beside it, as they depend less
// on who else is at work.
//
// Works that have no floor (memory a key, reopening, the expiry of a slot, the
// turn of the hour) report figures with the bound they are held against.
//
// Everything happens below one directory, which is emptied afterwards. Memory
// is touched before it is needed: a guest's first use of a page may cost a
// hundred times the second.
package engine

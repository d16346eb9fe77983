package bench

import (
	"fmt"
	"math"
	"slices"
)

// Quartiles are the quarter, the middle and the three-quarter point of a
// sample. Between two members they are interpolated.
type Quartiles struct {
	Q1     float64 `json:"q1"`
	Median float64 `json:"median"`
	Q3     float64 `json:"q3"`
}

// QuartilesOf returns the quartiles of a sample, zero if it is empty. It does
// not change the sample.
func QuartilesOf(sample []float64) Quartiles {
	sorted := slices.Sorted(slices.Values(sample))
	return Quartiles{at(sorted, 0.25), at(sorted, 0.5), at(sorted, 0.75)}
}

// Median returns the middle of a sample, 0 if it is empty.
func Median(sample []float64) float64 { return QuartilesOf(sample).Median }

// at returns the q-quantile of an ascending sample.
func at(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	place := q * float64(len(sorted)-1)
	low := int(place)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (place-float64(low))*(sorted[high]-sorted[low])
}

// String writes the median and, in brackets, the quartiles.
func (q Quartiles) String() string {
	return fmt.Sprintf("%s [%s %s]", Figure(q.Median), Figure(q.Q1), Figure(q.Q3))
}

// Ratios divides what one side measured by what the other did, pair by pair.
// Pairs without a base, which is 0, are left out.
func Ratios(measured, base []float64) []float64 {
	var all []float64
	for i := range min(len(measured), len(base)) {
		if base[i] != 0 {
			all = append(all, measured[i]/base[i])
		}
	}
	return all
}

// Figure writes a number with three significant digits, or as many as its whole
// part has.
func Figure(v float64) string {
	decimals := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	if v == 0 {
		decimals = 0
	}
	return fmt.Sprintf("%.*f", min(max(decimals, 0), 4), v)
}

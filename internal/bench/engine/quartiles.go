package engine

import "slices"

// Quartiles sum up the same figure taken several times.
type Quartiles struct {
	Low    float64 `json:"q1"`
	Median float64 `json:"median"`
	High   float64 `json:"q3"`
}

// quartilesOf interpolates between the neighbours of each quartile's place. It
// sorts values; there is at least one.
func quartilesOf(values []float64) Quartiles {
	slices.Sort(values)
	at := func(q float64) float64 {
		place := q * float64(len(values)-1)
		i := int(place)
		if i+1 >= len(values) {
			return values[i]
		}
		return values[i] + (place-float64(i))*(values[i+1]-values[i])
	}
	return Quartiles{at(0.25), at(0.5), at(0.75)}
}

package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Duration is a time.Duration written as people write it: "500ms", "1h30m",
// "10d". A day is 24 hours.
type Duration time.Duration

const day = 24 * time.Hour

// ParseDuration reads a Duration: decimal numbers with the units d, h, m, s,
// ms, us and ns, the days first. The sign may be negative; [Config.Validate]
// decides what is allowed where.
func ParseDuration(s string) (Duration, error) {
	fault := fmt.Errorf("%q is not a duration; write one like \"500ms\", \"1h30m\" or \"10d\"", s)
	head, rest, hasDays := strings.Cut(s, "d")
	if !hasDays {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fault
		}
		return Duration(d), nil
	}
	days, err := strconv.ParseInt(head, 10, 32)
	if err != nil || days > int64(math.MaxInt64/day) || days < -int64(math.MaxInt64/day) || strings.HasPrefix(head, "+") {
		return 0, fault
	}
	d := time.Duration(days) * day
	if rest == "" {
		return Duration(d), nil
	}
	more, err := time.ParseDuration(rest)
	if err != nil || strings.ContainsAny(rest, "+-") || days < 0 || d > math.MaxInt64-more {
		return 0, fault
	}
	return Duration(d + more), nil
}

// String writes the duration the way ParseDuration reads it, without the zero
// parts that time.Duration writes.
func (d Duration) String() string {
	t := time.Duration(d)
	days := ""
	if t >= day {
		days = strconv.FormatInt(int64(t/day), 10) + "d"
		if t %= day; t == 0 {
			return days
		}
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return days + s
}

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err == nil {
		*d = v
	}
	return err
}

// A Size is a number of bytes, written with a unit: "64MiB", "500KB", or
// without one.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	// In falling order: String picks the first that divides.
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6},
	{"KiB", 1 << 10}, {"KB", 1e3}, {"kB", 1e3}, {"B", 1},
}

var errNotSize = errors.New("write one like \"64MiB\", \"500KB\" or \"4096\" (bytes)")

// ParseSize reads a Size: a whole number, then a unit: B, KB, MB, GB, TB (powers
// of 1000), KiB, MiB, GiB, TiB (powers of 1024); none is bytes.
func ParseSize(s string) (Size, error) {
	number, unit := s, int64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			number, unit = strings.TrimSuffix(n, " "), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a size; %w", s, errNotSize)
	}
	return Size(int64(n) * unit), nil
}

// String writes the size in the greatest unit that leaves a whole number.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 && u.bytes > 1 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText implements [encoding.TextMarshaler].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Size) UnmarshalText(text []byte) error {
	v, err := ParseSize(string(text))
	if err == nil {
		*s = v
	}
	return err
}

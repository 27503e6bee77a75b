package monitor

import (
	"os"
	"strconv"
	"strings"
)

// host is what the machine says of itself; each figure may be unknown.
type host struct {
	stat        func() (busy, all float64, ok bool) // nil: readStat
	busy, all   float64                             // ticks since boot
	cpu         float64                             // percent since the last look
	free, swap  float64                             // bytes
	hasCPU, mem bool
}

// look reads the kernel's figures.
func (h *host) look() {
	stat := h.stat
	if stat == nil {
		stat = readStat
	}
	busy, all, ok := stat()
	h.hasCPU = ok && h.all > 0 && all > h.all && busy >= h.busy
	if h.hasCPU {
		h.cpu = 100 * (busy - h.busy) / (all - h.all)
	}
	h.busy, h.all = busy, all
	h.free, h.swap, h.mem = readMemory()
}

// readStat: https://man7.org/linux/man-pages/man5/proc_stat.5.html. Time that waits for disks is idle, as at AWS.
func readStat() (busy, all float64, ok bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(first)
	if len(fields) < 9 {
		return 0, 0, false
	}
	for i, f := range fields[1:9] { // guests are counted in user
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, 0, false
		}
		all += v
		if i != 3 && i != 4 {
			busy += v
		}
	}
	return busy, all, true
}

func readMemory() (free, swap float64, ok bool) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, false
	}
	kilobytes := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if f := strings.Fields(value); len(f) > 0 {
			kilobytes[name], _ = strconv.ParseFloat(f[0], 64)
		}
	}
	free, ok = kilobytes["MemAvailable"]
	return free * 1024, (kilobytes["SwapTotal"] - kilobytes["SwapFree"]) * 1024, ok
}

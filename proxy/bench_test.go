package proxy

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"testing"
)

// BenchmarkProxy drives the data path with redis-benchmark, so that a CPU profile shows the proxy
// alone:
//
//	go test ./proxy -run ^$ -bench Proxy/async/SET/50$ -benchtime 500000x -cpuprofile cpu.out
//
// For figures beside a direct connection, make bench.
func BenchmarkProxy(b *testing.B) {
	tool, err := exec.LookPath("redis-benchmark")
	if err != nil {
		b.Skip("redis-benchmark is not installed: apt-get install redis-tools")
	}
	primary, replica := startNode(b, "g-001"), startNode(b, "g-002")
	primary.promote(b)
	replica.replicaOf(b, primary)
	g := startProxy(b, nil)
	g.say(replica.status)
	for _, durability := range []string{"async", "sync"} {
		for _, command := range []string{"GET", "SET"} {
			for _, connections := range []int{1, 50, 500} {
				b.Run(fmt.Sprintf("%s/%s/%d", durability, command, connections), func(b *testing.B) {
					if durability == "sync" {
						g.lead(primary, 1, syncRule("g-002", "g-003"))
					} else {
						g.lead(primary, 1, nil)
					}
					host, port, _ := net.SplitHostPort(g.proxy.Addrs().Primary)
					cmd := exec.Command(tool, "-h", host, "-p", port, "-c", strconv.Itoa(connections), "-n", strconv.Itoa(b.N),
						"-d", "100", "-r", "10000", "-t", command, "-q")
					b.ResetTimer()
					out, err := cmd.CombinedOutput()
					b.StopTimer()
					if err != nil {
						b.Fatalf("redis-benchmark: %v: %s", err, out)
					}
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
				})
			}
		}
	}
}

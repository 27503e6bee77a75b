package proxy

import (
	"crypto/tls"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"testing"

	"understudy/cluster"
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

// BenchmarkTLS gives the price of TLS on either side, beside the same load without:
//
//	go test ./proxy -run ^$ -bench TLS -benchtime 100000x
func BenchmarkTLS(b *testing.B) {
	tool, err := exec.LookPath("redis-benchmark")
	if err != nil {
		b.Skip("redis-benchmark is not installed: apt-get install redis-tools")
	}
	_, paths := identity(b)
	files := opened(b, paths)
	n := secureNode(b, "g-001", paths)
	n.promote(b)
	for _, side := range []string{"none", "clients", "servers", "both"} {
		g := startProxy(b, func(o *Options) {
			withTLS(files)(o)
			if side == "servers" || side == "both" {
				o.ServerTLS = func(cluster.NodeID, string) *tls.Config { return files.Client("127.0.0.1") }
			}
		})
		g.lead(n, 1, func(s *cluster.NodeStatus) {
			if side == "none" || side == "clients" {
				s.Addr = n.server.Addr()
			}
		})
		for _, connections := range []int{1, 50} {
			b.Run(fmt.Sprintf("%s/%d", side, connections), func(b *testing.B) {
				addr, args := g.proxy.Addrs().Primary, []string{}
				if side == "clients" || side == "both" {
					addr, args = g.proxy.Addrs().PrimaryTLS, []string{"--tls", "--cacert", paths.CA}
				}
				host, port, _ := net.SplitHostPort(addr)
				args = append(args, "-h", host, "-p", port, "-c", strconv.Itoa(connections), "-n", strconv.Itoa(b.N), "-d", "100", "-r", "10000", "-t", "SET", "-q")
				b.ResetTimer()
				out, err := exec.Command(tool, args...).CombinedOutput()
				b.StopTimer()
				if err != nil {
					b.Fatalf("redis-benchmark: %v: %s", err, out)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
			})
		}
	}
}

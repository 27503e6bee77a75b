package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const alarmTopic = "arn:aws:sns:us-east-1:000000000000:understudy-alarms"

// seen is when somebody learnt of something, and the text.
type seen struct {
	at   time.Time
	text string
}

// hook is an HTTP subscriber that confirms as one of SNS does, by opening SubscribeURL.
func hook(t *testing.T) (address string, got <-chan seen) {
	t.Helper()
	all := make(chan seen, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct{ Type, SubscribeURL, Subject string }
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Errorf("what came is no document of SNS: %v", err)
		}
		if m.Type == "Notification" {
			all <- seen{time.Now(), m.Subject}
			return
		}
		res, err := http.Get(m.SubscribeURL)
		if err != nil {
			t.Errorf("confirm: %v", err)
			return
		}
		_ = res.Body.Close()
	}))
	t.Cleanup(server.Close)
	return server.URL, all
}

// mailbox is a mail server that takes every letter.
func mailbox(t *testing.T) (address string, got <-chan seen) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	all := make(chan seen, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go takeMail(c, all)
		}
	}()
	return l.Addr().String(), all
}

func takeMail(c net.Conn, all chan<- seen) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
	say("220 mailbox")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if strings.TrimSpace(line) == "." {
					break
				}
				text.WriteString(line)
			}
			all <- seen{time.Now(), text.String()}
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 fine")
		}
	}
}

// next waits for what a subscriber learns next, and is about.
func next(t *testing.T, from <-chan seen, about string) seen {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s := <-from:
			if strings.Contains(s.text, about) {
				return s
			}
		case <-deadline:
			t.Fatalf("nothing about %s came within %v", about, patience)
		}
	}
}

var confirmLink = regexp.MustCompile(`http://\S+Action=ConfirmSubscription\S+`)

// aws runs the front's own client as an operator would.
func (g *Group) aws(args ...string) (stdout string, code int) {
	g.t.Helper()
	stdout, stderr, code := run(g.t, append([]string{"aws", "--data", g.Data}, args...)...)
	return stdout + stderr, code
}

// subscribe subscribes the hook and the mailbox, and confirms both.
func subscribe(t *testing.T, g *Group, hookURL string, letters <-chan seen) {
	t.Helper()
	for _, x := range [][2]string{{"http", hookURL}, {"email", "oncall@example.com"}} {
		if out, code := g.aws("sns", "subscribe", "--topic-arn", alarmTopic, "--protocol", x[0], "--notification-endpoint", x[1]); code != 0 {
			t.Fatalf("subscribe %s: exit %d: %s", x[0], code, out)
		}
	}
	letter := next(t, letters, "ConfirmSubscription")
	_, body, _ := strings.Cut(letter.text, "\r\n\r\n")
	text, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	link := confirmLink.FindString(string(text))
	if link == "" {
		t.Fatalf("no link in the letter:\n%s", letter.text)
	}
	res, err := http.Get(strings.TrimRight(link, ">).\""))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("the link of the letter answers %s", res.Status)
	}
	eventually(t, "two confirmed subscriptions", func() error {
		out, _ := g.aws("sns", "get-topic-attributes", "--topic-arn", alarmTopic)
		if !strings.Contains(out, `"SubscriptionsConfirmed": "2"`) {
			return fmt.Errorf("the topic is %s", out)
		}
		return nil
	})
}

// scraping starts a Prometheus that scrapes the group each second and has the rules that we ship; nil when there is none here.
func scraping(t *testing.T, g *Group) *prometheus {
	t.Helper()
	rules, err := filepath.Abs("../deploy/prometheus/understudy.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := newPrometheus(t, fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n- job_name: understudy\n  static_configs: [{targets: [%q]}]\n", rules, g.HTTP))
	if p == nil {
		t.Log("NOT TESTED: that Prometheus sees the failover: there is none here (.ci/need prometheus)")
		return nil
	}
	p.start()
	eventually(t, "Prometheus that has recorded the group's epoch", func() error {
		if v, ok := p.value("group:understudy_epoch:max"); !ok {
			return fmt.Errorf("it has %v", v)
		}
		return nil
	})
	return p
}

func fetch(address string) (string, error) {
	res, err := http.Get(address)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// TestAFailoverIsSeenByAllWhoWatch kills the primary under everybody who may be told: a subscriber over HTTP, one by e-mail,
// Prometheus with the rules that we ship, and whoever asks for the alarm's history as the AWS CLI does.
func TestAFailoverIsSeenByAllWhoWatch(t *testing.T) {
	mail, letters := mailbox(t)
	hookURL, posts := hook(t)
	g := StartGroup(t, "--smtp-addr", mail, "--smtp-from", "understudy@example.com", "--smtp-encrypt", "off")
	eventually(t, "the pack of alarms, calm", func() error {
		out, _ := g.cli("alarm", "list")
		if !strings.Contains(out, "understudy-main-drill-overdue") || strings.Contains(out, "ALARM ") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	subscribe(t, g, hookURL, letters)
	if out, code := g.cli("alarm", "test", "understudy-main-failover"); code != 0 {
		t.Fatalf("alarm test: exit %d: %s", code, out)
	}
	next(t, posts, `ALARM: "understudy-main-failover"`)
	next(t, letters, `ALARM: "understudy-main-failover"`)
	prom := scraping(t, g)

	killed := time.Now()
	g.KillPrimary()
	post, letter := next(t, posts, `ALARM: "understudy-main-failover"`), next(t, letters, `ALARM: "understudy-main-failover"`)
	var history struct {
		AlarmHistoryItems []struct{ Timestamp, HistorySummary string }
	}
	out, code := g.aws("cloudwatch", "describe-alarm-history", "--alarm-name", "understudy-main-failover", "--history-item-type", "StateUpdate", "--output", "json")
	if err := json.Unmarshal([]byte(out), &history); err != nil || code != 0 || len(history.AlarmHistoryItems) == 0 || history.AlarmHistoryItems[0].HistorySummary != "Alarm updated from OK to ALARM" {
		t.Fatalf("describe-alarm-history: exit %d, %v: %s", code, err, out)
	}
	changed, err := time.Parse(time.RFC3339, history.AlarmHistoryItems[0].Timestamp)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("after the kill: alarm %v, HTTP %v, e-mail %v", changed.Sub(killed).Round(time.Millisecond), post.at.Sub(killed).Round(time.Millisecond), letter.at.Sub(killed).Round(time.Millisecond))
	if prom != nil {
		eventually(t, "UnderstudyFailover in Prometheus", func() error {
			text, err := fetch("http://" + prom.addr + "/api/v1/alerts")
			if err != nil || !strings.Contains(text, `"alertname":"UnderstudyFailover"`) || !strings.Contains(text, `"state":"firing"`) {
				return fmt.Errorf("%s %v", text, err)
			}
			return nil
		})
		t.Logf("Prometheus: %v", time.Since(killed).Round(time.Millisecond))
	}
}

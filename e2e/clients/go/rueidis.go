package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// rueidisClient uses RESP3, pipelines what goroutines send at a time, and caches with CLIENT TRACKING.
type rueidisClient struct{ c rueidis.Client }

func openRueidis(endpoint string) client {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr(endpoint)}, ForceSingleClient: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, "rueidis:", err)
		os.Exit(1)
	}
	return rueidisClient{c}
}

func (x rueidisClient) set(key, value string) error {
	return x.c.Do(background, x.c.B().Set().Key(key).Value(value).Build()).Error()
}

func (x rueidisClient) get(key string) (string, error) {
	v, err := x.c.Do(background, x.c.B().Get().Key(key).Build()).ToString()
	if isNil(err) {
		err = nil
	}
	return v, err
}

func (x rueidisClient) seen(key string) (string, error) {
	v, err := x.c.DoCache(background, x.c.B().Get().Key(key).Cache(), time.Minute).ToString()
	if isNil(err) {
		err = nil
	}
	return v, err
}

func (x rueidisClient) incr(key string) error {
	return x.c.Do(background, x.c.B().Incr().Key(key).Build()).Error()
}

func (x rueidisClient) push(key, value string) error {
	return x.c.Do(background, x.c.B().Lpush().Key(key).Element(value).Build()).Error()
}

func (x rueidisClient) pop(key string) (string, error) {
	both, err := x.c.Do(background, x.c.B().Brpop().Key(key).Timeout(1).Build()).AsStrSlice()
	if isNil(err) || err == nil && len(both) < 2 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return both[1], nil
}

func (x rueidisClient) both(n string) error {
	return x.c.Dedicated(func(d rueidis.DedicatedClient) error {
		replies := d.DoMulti(background, d.B().Multi().Build(), d.B().Set().Key(key+":both").Value(n).Build(),
			d.B().Sadd().Key(key+":seen").Member(n).Build(), d.B().Exec().Build())
		return replies[3].Error()
	})
}

func (x rueidisClient) many(n string) (string, error) {
	var cmds rueidis.Commands
	for i := range 5 {
		cmds = append(cmds, x.c.B().Set().Key(key+":many:"+strconv.Itoa(i)).Value(n).Build(), x.c.B().Get().Key(key+":many:"+strconv.Itoa(i)).Build())
	}
	replies := x.c.DoMulti(background, cmds...)
	return replies[9].ToString()
}

func (x rueidisClient) members(key string) ([]string, error) {
	return x.c.Do(background, x.c.B().Smembers().Key(key).Build()).AsStrSlice()
}

func (x rueidisClient) list(key string) ([]string, error) {
	return x.c.Do(background, x.c.B().Lrange().Key(key).Start(0).Stop(-1).Build()).AsStrSlice()
}

func (x rueidisClient) publish(channel, message string) error {
	return x.c.Do(background, x.c.B().Publish().Channel(channel).Message(message).Build()).Error()
}

// subscribe asks again when Receive ends, which it does when its connection was lost and could not be restored.
func (x rueidisClient) subscribe(channel string, hear func(string)) {
	go func() {
		for {
			_ = x.c.Receive(background, x.c.B().Subscribe().Channel(channel).Build(), func(m rueidis.PubSubMessage) { hear(m.Message) })
			time.Sleep(50 * time.Millisecond)
		}
	}()
}

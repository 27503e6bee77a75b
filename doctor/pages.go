package doctor

// page is what docs/doctor.md says of a finding, and `understudy doctor explain`.
type page struct {
	Title    string
	Severity Severity // as a rule; the finding's own may differ
	Why      string   // one or two sentences: in each finding
	Text     string   // when it is found, and what the repair does
	Advice   string   // where there is no command
	Sources  []string
}

// pages are by the findings' ids.
var pages = map[string]page{
	"source-not-read": {
		Title: "Something was not looked at", Severity: Warning,
		Why:    "What was not read is neither good nor bad: it is not known.",
		Text:   "One finding for each source that did not answer, or that the credentials may not read. Rules that need the source say nothing.",
		Advice: "Give the credentials the rights of deploy/aws/iam-policy.json, or the password with --password-file, and look again.",
	},
	"group-not-available": {
		Title: "The group is not as it should be", Severity: Warning,
		Why:  "A failover needs somebody who can take over; a second failure now may find nobody.",
		Text: "Critical when nobody accepts writes, a warning while the group serves with less than it should have. `status --explain` says what is waited for.",
	},
	"no-replica": {
		Title: "There is no replica", Severity: Critical,
		Why:    "Everything else here needs a second copy.",
		Text:   "Found when the group has one node. The repair adds two replicas, so that one is left when the first has taken over. On AWS nodes cost money: it is never done by --fix.",
		Advice: "Add a node where the group's nodes are run: docs/several-machines.md for agents.",
	},
	"single-zone": {
		Title: "All nodes are in one zone", Severity: Warning,
		Why:    "A zone is what fails as one: power, network, cooling.",
		Text:   "Found when the group's nodes name one zone. On ElastiCache the repair adds a replica, which is placed where there are fewest; name zones with --replica-configuration, NodeGroupId=0001,NewReplicaCount=N,PreferredAvailabilityZones=…, to choose. The zones of a local group are a setting of `up`: stop it, and start it with --zones and the other settings as they were; the data stay. Nodes that were added later stay where they were added: add others, which go where there are fewest, and take those away with decrease-replica-count.",
		Advice: "Start `understudy up` with --zones us-east-1a,us-east-1b,us-east-1c and the other settings as they were: the data stay, and further replicas go where there are fewest.",
	},
	"automatic-failover-off": {
		Title: "Automatic failover is off", Severity: Critical,
		Why:  "Without it the group stays down until somebody promotes a replica by hand.",
		Text: "--fix turns it on (ModifyReplicationGroup) when there is a replica. It interrupts nobody.",
	},
	"multi-az-off": {
		Title: "Multi-AZ is off", Severity: Warning,
		Why:    "With it AWS keeps a replica in another zone, prefers it, and stands by its availability (SLA).",
		Text:   "--fix turns it on together with automatic failover (ModifyReplicationGroup) when the nodes are in at least two zones.",
		Advice: "Bring the group into two zones first: see no-replica and single-zone.",
	},
	"tls-off": {
		Title: "Other machines speak to it in the clear", Severity: Warning,
		Why:    "Keys, values and the password itself can be read on the way.",
		Text:   "Found at each endpoint that is not on the loopback and speaks no TLS. Clients must be changed with it, so there is no command.",
		Advice: "Of `up`: --primary-tls-addr and its like with --tls-cert and --tls-key (understudy certs makes them). Of ElastiCache: --transit-encryption-enabled with --transit-encryption-mode preferred, then the clients, then required.",
	},
	"auth-off": {
		Title: "Nobody is asked for a password", Severity: Warning,
		Why:    "Whoever reaches the port reads, writes and deletes everything; at the HTTP address he switches the primary over.",
		Text:   "Found at each endpoint, and at the HTTP address, that is not on the loopback and asks for no password or token.",
		Advice: "Of `up`: --password-file, --http-token-file. Of ElastiCache: --auth-token with encryption in transit, or users.",
	},
	"durability-async": {
		Title: "Acked means on one node", Severity: Note,
		Why:    "A failover loses the writes that were acked and not yet copied; how many is in the drill's report.",
		Text:   "A note: it is a choice. ElastiCache is always so.",
		Advice: "Start `up` with --durability sync where a write must not be lost.",
	},
	"one-machine": {
		Title: "The whole group is on this machine", Severity: Note,
		Why:    "When the machine is lost, so are all copies.",
		Text:   "A note of every group of `understudy up`.",
		Advice: "See docs/several-machines.md for agents on several machines.",
	},
	"alarm-dimension-is-a-group": {
		Title: "An alarm looks at a metric that nobody publishes", Severity: Critical,
		Why:     "AWS publishes ElastiCache's metrics for each node: CacheClusterId is a node's id. With a group's id there never is data, and notBreaching turns that into OK.",
		Text:    "Found at alarms in AWS/ElastiCache whose CacheClusterId is the id of the group. Of a lag alarm the repair puts one that works, over all nodes, with the same actions; --fix does the same. It does not delete the blind one: once the other is there, that is the repair.",
		Advice:  "Put one alarm for each node, with the node's id as CacheClusterId, or one over all nodes with --metrics; then delete this one.",
		Sources: []string{"https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.Redis.html"},
	},
	"alarm-metric-is-not-there": {
		Title: "An alarm looks at what is gone", Severity: Warning,
		Why:  "A node that was replaced under another id, or a misspelt name: the alarm can never go off.",
		Text: "Found when ListMetrics knows no metric with exactly the alarm's name and dimensions. CloudWatch forgets a metric after two weeks without data. A metric of a node that is there is missed only when others of that node are known.",
	},
	"alarm-silent-after-promotion": {
		Title: "A lag alarm falls silent when its node is promoted", Severity: Warning,
		Why:    "ReplicationLag is published by replicas only. After the failover the alarm has no data, and says OK (notBreaching) or nothing (missing), while another node lags unseen.",
		Text:   "Found at alarms on ReplicationLag of one node that do not treat missing data as breaching, unless an alarm looks at the whole group. A note when every node has such an alarm. The repair puts an alarm on the greatest lag of all nodes, where missing data are breaching: on ElastiCache with MAX(METRICS()) over the nodes, on ours with the metric of the group.",
		Advice: "Put one such alarm for each node.",
	},
	"alarm-actions-disabled": {
		Title: "Alarms go off and tell nobody", Severity: Warning,
		Why:  "Actions are disabled for a maintenance and forgotten.",
		Text: "--fix enables them (EnableAlarmActions).",
	},
	"alarm-without-actions": {
		Title: "An alarm has nobody to tell", Severity: Warning,
		Why:    "Its state can be looked at, and at night nobody does.",
		Text:   "Found when AlarmActions is empty and no composite alarm that tells somebody has it in its rule. The repair puts the same alarm with a topic that other alarms of the group tell; without one there is no command.",
		Advice: "Make a topic with sns create-topic and sns subscribe, and put the alarm again with --alarm-actions.",
	},
	"alarm-topic-missing": {
		Title: "Alarms tell a topic that is not there", Severity: Critical,
		Why:  "CloudWatch does not check that an action exists: it fails when the alarm goes off.",
		Text: "The repair makes a topic of that name and subscribes an address: put your own in place of the one at example.com.",
	},
	"topic-without-confirmed-subscribers": {
		Title: "Nobody is behind a topic", Severity: Critical,
		Why:  "SNS sends nothing to a subscription that was not confirmed.",
		Text: "Found at topics that alarms of the group tell. An address that has not been confirmed got a message with a link. The repair subscribes one more: put your own in place of the one at example.com. A local instance takes email when it knows a mail server (--smtp-…), and chat services by their webhooks: docs/notifications.md.",
	},
	"no-alarm-on-lag": {
		Title: "Nobody looks at the lag", Severity: Warning,
		Why:  "What the replicas have not got is lost in a failover.",
		Text: "The repair puts an alarm on the greatest lag of all nodes above 10 s. --fix does when it knows a topic that alarms of the group tell.",
	},
	"no-alarm-on-no-primary": {
		Title: "Nobody looks at whether there is a primary", Severity: Warning,
		Why:     "AWS has no metric for it: a group that nobody can write to has no alarm of its own.",
		Text:    "The repair puts an alarm on the sum of IsMaster over the nodes below 1; on ours, on PrimaryPresent of the group. --fix does when it knows a topic.",
		Sources: []string{"https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.Redis.html"},
	},
	"no-alarm-on-cpu": {
		Title: "Nobody looks at the processor", Severity: Warning,
		Why:  "A server whose one thread is busy answers nobody, and looks dead.",
		Text: "The repair puts an alarm on EngineCPUUtilization of the busiest node above 90 %, as AWS recommends. --fix does when it knows a topic.",
	},
	"no-alarm-on-memory": {
		Title: "Nobody looks at the memory", Severity: Warning,
		Why:  "A full server evicts, or refuses writes.",
		Text: "The repair puts an alarm on DatabaseMemoryUsagePercentage of the fullest node above 80 %. Not found while maxmemory is 0: there is no such metric then. --fix does when it knows a topic.",
	},
	"no-backup": {
		Title: "There is no backup", Severity: Critical,
		Why:  "Replicas copy a mistake within milliseconds; only a backup does not.",
		Text: "--fix makes one: of a local group by `understudy backup create`, of ElastiCache by CreateSnapshot on a replica.",
	},
	"backup-too-old": {
		Title: "The newest backup is old", Severity: Warning,
		Why:  "What was written since then is gone when all copies are.",
		Text: "Found above 26 hours: a day, and two hours by which a daily backup may move. --fix makes one.",
	},
	"backup-damaged": {
		Title: "A backup is damaged", Severity: Critical,
		Why:  "It is never restored: it only looks as if there were one.",
		Text: "Found when `understudy backup verify` found other bytes than were written. The repair deletes it and makes another one; look at the disk.",
	},
	"backup-never-verified": {
		Title: "Nobody has ever read the backup", Severity: Note,
		Why:    "That a snapshot can be restored is known when it was restored.",
		Text:   "A note of ElastiCache, which does not tell. Backups of a local group were read in full when they were made, or they are not there; `understudy backup verify` reads one again.",
		Advice: "Restore it into a group of another name with create-replication-group --snapshot-name, look at it, and delete that group.",
	},
	"snapshot-retention-0": {
		Title: "No daily backups are kept", Severity: Warning,
		Why:  "With a retention of 0 days none is made.",
		Text: "--fix sets 7 days (ModifyReplicationGroup).",
	},
	"never-drilled": {
		Title: "No failover was ever tried", Severity: Warning,
		Why:  "What was never tried does not work on the day: a client without a timeout, an alarm that tells nobody.",
		Text: "Looked for in the records of `understudy drill` (--drills), and of ElastiCache in its events, which reach back 14 days. The repair runs a drill, which ends the primary for a moment; on ElastiCache it is a dry run until --confirm is added.",
	},
	"drill-too-old": {
		Title: "The newest drill is old", Severity: Warning,
		Why:  "Since then clients, settings and versions have changed.",
		Text: "Found above 7 days of a local group, as its alarm drill-overdue, and above 30 days of ElastiCache.",
	},
	"drill-failed": {
		Title: "The newest drill failed", Severity: Warning,
		Why:  "A real failover would show the same.",
		Text: "The repair shows its report.",
	},
	"client-without-retry": {
		Title: "A client gives up at the first broken connection", Severity: Warning,
		Why:  "In a failover connections break: each of them is an error that a user sees.",
		Text: "From CLIENT LIST, by what libraries do by default; what an application has set cannot be seen. A note behind a proxy that holds: its clients keep their sockets.",
	},
	"client-dead-socket-risk": {
		Title: "A client waits on a dead socket", Severity: Warning,
		Why:  "When a machine is lost nobody says goodbye: without a timeout or keep-alive the client waits until TCP gives up, a quarter of an hour.",
		Text: "From CLIENT LIST, by what libraries do by default; what an application has set cannot be seen. A note behind a proxy that holds.",
	},
	"client-timeout-shorter-than-hold": {
		Title: "A client gives up before the hold does", Severity: Warning,
		Why:    "A request that is held through a failover is answered; to a client that does not wait so long it is an error, of a write that may be carried out all the same.",
		Text:   "Compares the time for which the proxy holds a request with the clients' default read timeouts, and with the server's setting timeout. What an application has set cannot be seen.",
		Advice: "Give the server's setting timeout a value above the hold, or 0.",
	},
	"client-unnamed": {
		Title: "Connections that do not say which library they are", Severity: Note,
		Why:     "Nothing is known of their retries and timeouts.",
		Text:    "Libraries say it with CLIENT SETINFO, which Redis has since 7.2; our proxy keeps it with older servers, too. phpredis, redigo and hiredis are not known to send it.",
		Advice:  "Look at the applications by their addresses (CLIENT LIST).",
		Sources: []string{"https://redis.io/docs/latest/commands/client-setinfo/"},
	},
	"maxmemory-without-policy": {
		Title: "What happens when the memory is full was not chosen", Severity: Warning,
		Why:     "Redis evicts by maxmemory-policy: without a bound the kernel ends the server, with noeviction a cache refuses writes, with allkeys-… sessions and queues go like a cache.",
		Text:    "Found when maxmemory is 0; when the policy is noeviction and the sample of keys has a cache; and, critical, when it is allkeys-… and the sample has sessions or queues. The repair of the first sets 1gb: choose what the machine has.",
		Advice:  "Set maxmemory-policy in the group's parameter group (modify-cache-parameter-group; those called default.… cannot be changed).",
		Sources: []string{"https://redis.io/docs/latest/develop/reference/eviction/"},
	},
	"mixed-workloads": {
		Title: "Sessions, cache and queues share one group", Severity: Warning,
		Why:    "A cache may be evicted and a queue may not; a flood in one takes the memory of the others, and a failover stops all of them.",
		Text:   "From a sample of keys (SCAN of at most 10,000 keys and one second, on a replica), by the words in their names (PHPREDIS_SESSION, sess, laravel_cache, queues, resque, bull, celery …), by their types (streams, lists without a time to live) and by times to live. The repair makes a group for the cache: point the application's cache at it.",
		Advice: "Make a group for each of them.",
	},
}

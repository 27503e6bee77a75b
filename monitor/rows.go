package monitor

// CloudWatch's units.
const (
	none    = "None"
	count   = "Count"
	percent = "Percent"
	bytes   = "Bytes"
	seconds = "Seconds"
	millis  = "Milliseconds"
	micros  = "Microseconds"
)

// table has AWS's names as AWS defines them: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.Redis.html
// and CacheMetrics.HostLevel.html.
var table = [figures]row{
	engineCPU:        {"EngineCPUUtilization", percent, ofNodes, "Of one core, of redis-server's main thread.", "growth of `used_cpu_sys_main_thread` and `used_cpu_user_main_thread` by the time between two looks"},
	hostCPU:          {"CPUUtilization", percent, ofWhole, "Of the machine, all cores. The group has it once.", "/proc/stat; waiting for disks is idle"},
	memoryUsage:      {"DatabaseMemoryUsagePercentage", percent, ofNodes, "Of `maxmemory`; no point when that is 0.", "`used_memory` by `maxmemory`"},
	memoryUsed:       {"BytesUsedForCache", bytes, ofNode, "What redis-server has allocated.", "`used_memory`"},
	fragmentation:    {"MemoryFragmentationRatio", none, ofNode, "Resident by allocated memory.", "`mem_fragmentation_ratio`"},
	freeableMemory:   {"FreeableMemory", bytes, ofNode, "Of the machine.", "/proc/meminfo, MemAvailable"},
	swapUsage:        {"SwapUsage", bytes, ofNode, "Of the machine.", "/proc/meminfo, SwapTotal − SwapFree"},
	currConnections:  {"CurrConnections", count, ofNodes, "Connections of clients; neither our own nor those of replication. The proxy's clients are the primary's.", "CLIENT LIST, and the proxy"},
	newConnections:   {"NewConnections", count, ofNodes, "Clients that have connected, counted as above.", "growth of `total_connections_received`, less what our parts opened and the calls of PSYNC; and the proxy"},
	currItems:        {"CurrItems", count, ofNode, "Keys of all databases.", "keyspace, `keys`"},
	volatileItems:    {"CurrVolatileItems", count, ofNode, "Keys that expire.", "keyspace, `expires`"},
	averageTTL:       {"DB0AverageTTL", millis, ofNode, "Of database 0, if it has keys.", "keyspace, `avg_ttl`"},
	cacheHits:        {"CacheHits", count, ofNodes, "Keys that reads found.", "growth of `keyspace_hits`"},
	cacheMisses:      {"CacheMisses", count, ofNodes, "Keys that reads did not find.", "growth of `keyspace_misses`"},
	hitRate:          {"CacheHitRate", percent, ofWhole, "Hits by hits and misses; no point when there were none. The group has one of all nodes together.", "both growths"},
	evictions:        {"Evictions", count, ofNodes, "Keys that went because memory was full.", "growth of `evicted_keys`"},
	reclaimed:        {"Reclaimed", count, ofNode, "Keys that expired.", "growth of `expired_keys`"},
	bytesIn:          {"NetworkBytesIn", bytes, ofNode, "Of redis-server, not of the machine.", "growth of `total_net_input_bytes`"},
	bytesOut:         {"NetworkBytesOut", bytes, ofNode, "Of redis-server, not of the machine.", "growth of `total_net_output_bytes`"},
	errorReplies:     {"ErrorCount", count, ofNode, "Commands that failed.", "growth of `total_error_replies`"},
	failedLogins:     {"AuthenticationFailures", count, ofNode, "Logins that redis-server refused.", "growth of `acl_access_denied_auth`; Redis 7.0: of `errorstat_WRONGPASS`"},
	saving:           {"SaveInProgress", count, ofNode, "1 while an RDB file is being written.", "`rdb_bgsave_in_progress`"},
	isMaster:         {"IsMaster", count, ofNode, "1 at the primary.", "`role`"},
	linkHealth:       {"MasterLinkHealthStatus", count, ofNode, "1 while the link is up; replicas only.", "`master_link_status`"},
	lagSeconds:       {"ReplicationLag", seconds, ofNode, "One value a second; replicas whose link is up only: at the primary it has no points, and an alarm on it goes silent.", "the agent: how old the newest of the primary's log is that is missing"},
	replicationBytes: {"ReplicationBytes", bytes, ofNode, "What the log grew by; primary only.", "growth of `master_repl_offset`"},
	readLatency:      {"SuccessfulReadRequestLatency", micros, ofNodes, "One value for each bucket of a factor of two, with its count: percentiles can be asked for.", "growth of LATENCY HISTOGRAM, commands that read"},
	writeLatency:     {"SuccessfulWriteRequestLatency", micros, ofNodes, "The same of commands that write.", "growth of LATENCY HISTOGRAM"},
	commandCount:     {"*Cmds", count, ofNode, "Calls of the commands of a family: see below.", "growth of `cmdstat_…`, `calls`"},
	commandLatency:   {"*CmdsLatency", micros, ofNode, "How long one took on average; no point without calls.", "growth of `usec` by that of `calls`"},

	primaryPresent:   {"PrimaryPresent", count, everySecond, "1 while a node may accept writes.", "the group's status"},
	primariesCounted: {"PrimariesCounted", count, everySecond, "Servers that say that they are a primary and are not fenced.", "`role` of every node"},
	epochNumber:      {"Epoch", count, everySecond, "Grows with every change of primary.", "the group's status"},
	redundancyCount:  {"Redundancy", count, everySecond, "Replicas that could take over now.", "the agents"},
	linksDown:        {"LinksDown", count, everySecond, "Replicas whose link is down, or that do not answer.", "`master_link_status`"},
	lagOfReplicas:    {"ReplicationLag", millis, everySecond, "One value for each replica whose link is up: Maximum is the worst of them, whoever leads.", "as AWS's"},
	failovers:        {"Failovers", count, everySecond, "1 in the second in which a failover was seen; no switchover is one.", "the group's status"},
	failoverGap:      {"LastFailoverGap", millis, everySecond, "How long the last change of primary took; none before the first.", "the group's status"},
	heldRequests:     {"HeldRequests", count, everySecond, "Requests that wait for a primary.", "the proxy"},
	leakedRequests:   {"LeakedRequests", count, everySecond, "Errors of failovers that reached clients in this second.", "the proxy"},
	backupAge:        {"BackupAge", seconds, everySecond, "Since the newest whole backup; no point without one.", "the archive of backups"},
	drillAge:         {"DrillAge", seconds, everySecond, "Since the newest drill that the group passed began; no point without one.", "the runs in `--drills`"},
	certificateDays:  {"CertificateDaysLeft", count, everySecond, "Days until the first of the certificates ends that clients meet, at the group's endpoints or the HTTP address; no point without TLS.", "the files"},

	linkUp:  {"LinkUp", count, nodeSecond, "1 while the link to the primary is up; replicas only.", "`master_link_status`"},
	nodeLag: {"ReplicationLag", millis, nodeSecond, "Replicas whose link is up only.", "as AWS's"},
}

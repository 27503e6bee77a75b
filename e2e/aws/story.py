"""An operator's day with boto3, and what AWS refuses. Every answer is parsed by botocore and held against the
operation's output shape: required members and types. Arguments: the endpoint's URL."""
import datetime
import http.server
import json
import queue
import sys
import threading
import time
import urllib.request
import urllib.error

import boto3
import botocore.exceptions
from botocore.config import Config
from botocore.validate import ParamValidator

url = sys.argv[1]
config = Config(retries={"max_attempts": 1}, user_agent_extra="story")
keys = dict(endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any", config=config)
cache, sts, sns, watch = (boto3.client(name, **keys) for name in ("elasticache", "sts", "sns", "cloudwatch"))
wrong, used = [], set()


def check(client, operation, out):
    shape = client.meta.service_model.operation_model(operation).output_shape
    status = out.pop("ResponseMetadata")
    if status["HTTPStatusCode"] != 200 or not status["RequestId"]:
        wrong.append(f"{operation}: {status}")
    if shape is not None:
        report = ParamValidator().validate(out, shape)
        if report.has_errors():
            wrong.append(f"{operation}: {report.generate_report()}")


def call(operation, client=cache, **given):
    used.add(operation)
    method = getattr(client, client.meta.method_to_api_mapping and
                     {v: k for k, v in client.meta.method_to_api_mapping.items()}[operation])
    out = method(**given)
    check(client, operation, out)
    return out


def refused(code, status, message, operation, **given):
    try:
        call(operation, **given)
        wrong.append(f"{operation} {given}: not refused")
    except botocore.exceptions.ClientError as e:
        got = (e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"])
        if got != (code, status) or message not in e.response["Error"]["Message"]:
            wrong.append(f"{operation} {given}: {got} {e.response['Error']['Message']}, want {code} {status} …{message}…")


def wait(name, group="story"):
    cache.get_waiter(name).wait(ReplicationGroupId=group, WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def whole(snapshot):
    """Waits until a snapshot is available: boto3 has no waiter for that."""
    until = time.monotonic() + 60
    while True:
        found = call("DescribeSnapshots", SnapshotName=snapshot)["Snapshots"]
        if found and found[0]["SnapshotStatus"] == "available":
            return
        if time.monotonic() > until:
            sys.exit(f"{snapshot} does not become available: {found}")
        time.sleep(0.05)


def fault(status, code, body, **headers):
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        urllib.request.urlopen(request)
        wrong.append(f"{code}: answered")
    except urllib.error.HTTPError as e:
        text = e.read().decode()
        if e.code != status or code not in text:
            wrong.append(f"{code}: {e.code} {text[:300]}")
    except (urllib.error.URLError, ConnectionError) as e:
        wrong.append(f"{code}: {e}")


came = queue.Queue()


class Subscriber(http.server.BaseHTTPRequestHandler):
    """Confirms by the link, as SNS's documentation has it, and keeps the documents."""

    def do_POST(self):
        document = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()
        if document["Type"] == "SubscriptionConfirmation":
            urllib.request.urlopen(document["SubscribeURL"]).read()
        came.put(document)

    def log_message(self, *_):
        pass


def told(what, good):
    """Waits for a document that is good."""
    until = time.monotonic() + 60
    while True:
        try:
            document = came.get(timeout=max(0.01, until - time.monotonic()))
        except queue.Empty:
            wrong.append(f"{what}: the subscriber was not told")
            return {}
        if good(document):
            return document


def alarms(topic):
    """The guide's alarm, one that rings, a composite one, and what is said of them."""
    guide = dict(AlarmName="redis-replication-lag", AlarmDescription="Alert when replication lag exceeds 10 seconds", MetricName="ReplicationLag",
                 Namespace="AWS/ElastiCache", Statistic="Average", Period=300, Threshold=10.0, ComparisonOperator="GreaterThanThreshold",
                 EvaluationPeriods=2, DatapointsToAlarm=2, TreatMissingData="notBreaching", AlarmActions=[topic],
                 Dimensions=[{"Name": "ReplicationGroupId", "Value": "redis-ha"}])
    call("PutMetricAlarm", watch, Tags=[{"Key": "a", "Value": "b"}], **guide)
    shown = call("DescribeAlarms", watch, AlarmNames=["redis-replication-lag"], AlarmTypes=["MetricAlarm"])["MetricAlarms"][0]
    if {k: shown.get(k) for k in guide} != guide or shown["OKActions"] != [] or shown["ActionsEnabled"] is not True:
        wrong.append(f"the guide's alarm: {shown}")
    rings = dict(guide, AlarmName="rings", Namespace="Story", MetricName="Lag", Period=1, EvaluationPeriods=1, DatapointsToAlarm=1, Dimensions=[])
    call("PutMetricAlarm", watch, **rings)
    now = datetime.datetime.now(datetime.timezone.utc)
    call("PutMetricData", watch, Namespace="Story", MetricData=[
        {"MetricName": "Lag", "Value": 12.5, "StorageResolution": 1, "Timestamp": now + datetime.timedelta(seconds=s)} for s in range(10)])
    message = json.loads(told("an alarm", lambda d: d.get("Subject", "").startswith('ALARM: "rings"')).get("Message", "{}"))
    if message.get("NewStateValue") != "ALARM" or message.get("Trigger", {}).get("Threshold") != 10.0:
        wrong.append(f"message: {message}")
    call("PutCompositeAlarm", watch, AlarmName="page", AlarmRule="ALARM(rings) OR ALARM(\"redis-replication-lag\")", ActionsSuppressor="redis-replication-lag",
         ActionsSuppressorWaitPeriod=1, ActionsSuppressorExtensionPeriod=1)
    both = call("DescribeAlarms", watch, AlarmTypes=["CompositeAlarm", "MetricAlarm"], AlarmNames=["page", "rings"])
    if [a["AlarmName"] for a in both["CompositeAlarms"]] != ["page"] or [a["AlarmName"] for a in both["MetricAlarms"]] != ["rings"]:
        wrong.append(f"both types: {both}")
    if len(call("DescribeAlarms", watch, ChildrenOfAlarmName="page")["MetricAlarms"]) != 2:
        wrong.append("children of page")
    if len(list(watch.get_paginator("describe_alarms").paginate(PaginationConfig={"PageSize": 1, "MaxItems": 3}))) != 3:
        wrong.append("pages of alarms")
    if not call("DescribeAlarmsForMetric", watch, Namespace="Story", MetricName="Lag")["MetricAlarms"]:
        wrong.append("alarms for a metric")
    watch.get_waiter("alarm_exists").wait(AlarmNames=["rings"], WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    call("DisableAlarmActions", watch, AlarmNames=["rings"])
    call("EnableAlarmActions", watch, AlarmNames=["rings"])
    call("SetAlarmState", watch, AlarmName="redis-replication-lag", StateValue="ALARM", StateReason="trying", StateReasonData='{"a": 1}')
    told("SetAlarmState", lambda d: d.get("Subject", "").startswith('ALARM: "redis-replication-lag"'))
    call("TagResource", watch, ResourceARN=shown["AlarmArn"], Tags=[{"Key": "c", "Value": "d"}])
    call("UntagResource", watch, ResourceARN=shown["AlarmArn"], TagKeys=["a"])
    if call("ListTagsForResource", watch, ResourceARN=shown["AlarmArn"])["Tags"] != [{"Key": "c", "Value": "d"}]:
        wrong.append("tags of the alarm")
    refused("ValidationError", 400, "Member must satisfy enum value set: [INSUFFICIENT_DATA, ALARM, OK]", "SetAlarmState", client=watch,
            AlarmName="rings", StateValue="INVALID", StateReason="r")
    refused("ResourceNotFound", 404, "", "SetAlarmState", client=watch, AlarmName="none", StateValue="OK", StateReason="r")
    refused("InvalidFormat", 400, "", "SetAlarmState", client=watch, AlarmName="rings", StateValue="OK", StateReason="r", StateReasonData="{")
    refused("ValidationError", 400, "MetricName must not be null", "PutMetricAlarm", client=watch, AlarmName="x", EvaluationPeriods=1, ComparisonOperator="GreaterThanThreshold")
    refused("ValidationError", 400, "composite alarm(s) depending on it", "DeleteAlarms", client=watch, AlarmNames=["rings"])
    refused("ResourceNotFoundException", 404, "", "ListTagsForResource", client=watch, ResourceARN=shown["AlarmArn"] + "x")
    call("DeleteAlarms", watch, AlarmNames=["page"])
    call("DeleteAlarms", watch, AlarmNames=["rings", "redis-replication-lag", "none"])
    history = call("DescribeAlarmHistory", watch, AlarmName="rings", ScanBy="TimestampAscending")["AlarmHistoryItems"]
    said = [h["HistorySummary"] for h in history]
    if said[0] != 'Alarm "rings" created' or said[-1] != 'Alarm "rings" deleted' or "Successfully executed action " + topic not in said:
        wrong.append(f"history: {said}")


call("GetCallerIdentity", sts)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Subscriber)
threading.Thread(target=server.serve_forever, daemon=True).start()
topic = call("CreateTopic", sns, Name="alerts", Attributes={"DisplayName": "Alerts"}, Tags=[{"Key": "a", "Value": "b"}])["TopicArn"]
for name, value in {"SignatureVersion": "2", "KmsMasterKeyId": "", "TracingConfig": "PassThrough", "DeliveryPolicy": "", "DisplayName": "A"}.items():
    call("SetTopicAttributes", sns, TopicArn=topic, AttributeName=name, AttributeValue=value)
subscription = call("Subscribe", sns, TopicArn=topic, Protocol="http", Endpoint="http://%s:%d/" % server.server_address,
                    ReturnSubscriptionArn=True, Attributes={"FilterPolicy": '{"colour":["red"]}'})["SubscriptionArn"]
token = told("Subscribe", lambda d: d["Type"] == "SubscriptionConfirmation")["Token"]
call("ConfirmSubscription", sns, TopicArn=topic, Token=token)
shown = call("GetSubscriptionAttributes", sns, SubscriptionArn=subscription)["Attributes"]
if shown["PendingConfirmation"] != "false" or shown["FilterPolicyScope"] != "MessageAttributes":
    wrong.append(f"GetSubscriptionAttributes: {shown}")
for colour in ("blue", "red"):
    call("Publish", sns, TopicArn=topic, Subject=colour, Message="m", MessageAttributes={"colour": {"DataType": "String", "StringValue": colour}})
first = told("Publish", lambda d: d["Type"] == "Notification")
if first.get("Subject") != "red" or first.get("SignatureVersion") != "2":
    wrong.append(f"filter: {first}")
call("SetSubscriptionAttributes", sns, SubscriptionArn=subscription, AttributeName="FilterPolicy", AttributeValue="{}")
call("PublishBatch", sns, TopicArn=topic, PublishBatchRequestEntries=[{"Id": "1", "Message": "a"}, {"Id": "2", "Message": "b"}])
told("PublishBatch", lambda d: d["Message"] == "b")
alarms(topic)
call("ListTopics", sns)
call("ListSubscriptions", sns)
call("ListSubscriptionsByTopic", sns, TopicArn=topic)
shown = call("GetTopicAttributes", sns, TopicArn=topic)["Attributes"]
if shown["SubscriptionsConfirmed"] != "1" or shown["DisplayName"] != "A":
    wrong.append(f"GetTopicAttributes: {shown}")
call("TagResource", sns, ResourceArn=topic, Tags=[{"Key": "c", "Value": "d"}])
call("UntagResource", sns, ResourceArn=topic, TagKeys=["a"])
if call("ListTagsForResource", sns, ResourceArn=topic)["Tags"] != [{"Key": "c", "Value": "d"}]:
    wrong.append("tags of the topic")
refused("NotFound", 404, "Topic does not exist", "Publish", client=sns, TopicArn=topic + "x", Message="m")
refused("InvalidParameter", 400, "Empty message", "Publish", client=sns, TopicArn=topic, Message="")
refused("InvalidParameter", 400, "Topic Name", "CreateTopic", client=sns, Name="a b")
refused("InvalidParameter", 400, "Token", "ConfirmSubscription", client=sns, TopicArn=topic, Token="x")
refused("AuthorizationError", 403, "", "GetTopicAttributes", client=sns, TopicArn=topic.replace("000000000000", "111111111111"))
refused("ResourceNotFound", 404, "", "ListTagsForResource", client=sns, ResourceArn=topic + "x")
call("CreateCacheSubnetGroup", CacheSubnetGroupName="subnets", CacheSubnetGroupDescription="d", SubnetIds=["subnet-1", "subnet-2"])
call("DescribeCacheSubnetGroups", CacheSubnetGroupName="subnets")
call("CreateCacheParameterGroup", CacheParameterGroupName="params", CacheParameterGroupFamily="redis7", Description="d")
call("DescribeCacheParameterGroups", CacheParameterGroupName="params")
call("DescribeCacheParameters", CacheParameterGroupName="params")
call("CreateReplicationGroup", ReplicationGroupId="story", ReplicationGroupDescription="d", NumCacheClusters=2, Engine="redis",
     CacheNodeType="cache.t4g.micro", AutomaticFailoverEnabled=True, MultiAZEnabled=True, SnapshotRetentionLimit=1,
     SnapshotWindow="03:00-04:00", CacheSubnetGroupName="subnets", SecurityGroupIds=["sg-1"], Tags=[{"Key": "a", "Value": "b"}])
refused("ReplicationGroupAlreadyExists", 400, "", "CreateReplicationGroup", ReplicationGroupId="story", ReplicationGroupDescription="d")
wait("replication_group_available")
group = call("DescribeReplicationGroups", ReplicationGroupId="story")["ReplicationGroups"][0]
call("DescribeReplicationGroups")
call("DescribeCacheClusters")
call("DescribeCacheClusters", CacheClusterId="story-001", ShowCacheNodeInfo=True)
call("ListTagsForResource", ResourceName=group["ARN"])
call("AddTagsToResource", ResourceName=group["ARN"], Tags=[{"Key": "c", "Value": "d"}])
tags = call("RemoveTagsFromResource", ResourceName=group["ARN"], TagKeys=["a"])
if [t for t in tags["TagList"] if not t["Key"].startswith("aws:")] != [{"Key": "c", "Value": "d"}]:
    wrong.append(f"tags: {tags}")
call("IncreaseReplicaCount", ReplicationGroupId="story", NewReplicaCount=2, ApplyImmediately=True)
wait("replication_group_available")
call("ModifyReplicationGroup", ReplicationGroupId="story", SnapshotRetentionLimit=3, NotificationTopicArn=topic, ApplyImmediately=True)
wait("replication_group_available")
call("TestFailover", ReplicationGroupId="story", NodeGroupId="0001")
told("TestFailover", lambda d: d["Message"] == '{"ElastiCache:FailoverComplete":"story"}' and "Subject" not in d)
wait("replication_group_available")
events = call("DescribeEvents", Duration=10)
said = [e["Message"] for e in events["Events"] if e["SourceIdentifier"].startswith("story")]
if not any("Test Failover API called" in m for m in said):
    wrong.append(f"events: {said}")
call("RebootCacheCluster", CacheClusterId="story-001", CacheNodeIdsToReboot=["0001"])
wait("replication_group_available")
call("CreateSnapshot", SnapshotName="snap", ReplicationGroupId="story")
wait("replication_group_available")
whole("snap")
call("CopySnapshot", SourceSnapshotName="snap", TargetSnapshotName="copy")
whole("copy")
call("DeleteSnapshot", SnapshotName="copy")
call("DecreaseReplicaCount", ReplicationGroupId="story", NewReplicaCount=1, ApplyImmediately=True)
wait("replication_group_available")

refused("ReplicationGroupNotFoundFault", 404, "none", "DescribeReplicationGroups", ReplicationGroupId="none")
refused("ReplicationGroupNotFoundFault", 404, "none", "TestFailover", ReplicationGroupId="none", NodeGroupId="0001")
refused("NodeGroupNotFoundFault", 404, "0009", "TestFailover", ReplicationGroupId="story", NodeGroupId="0009")
refused("CacheClusterNotFound", 404, "", "DescribeCacheClusters", CacheClusterId="none")
refused("CacheSubnetGroupNotFoundFault", 400, "", "DescribeCacheSubnetGroups", CacheSubnetGroupName="none")
refused("InvalidParameterCombination", 400, "", "CreateReplicationGroup", ReplicationGroupId="bad", ReplicationGroupDescription="d",
        NumCacheClusters=2, MultiAZEnabled=True, AutomaticFailoverEnabled=False, CacheNodeType="cache.t4g.micro")
refused("InvalidParameterValue", 400, "", "DescribeReplicationGroups", MaxRecords=5)
refused("InvalidAction", 400, "", "DescribeUsers")
fault(400, "InvalidAction", b"Action=Nonsense&Version=2015-02-02", **{"Content-Type": "application/x-www-form-urlencoded"})
fault(413, "RequestEntityTooLarge", bytes(i * 7 % 256 for i in range(256)) * 8192, **{"Content-Type": "application/x-www-form-urlencoded"})

call("DeleteReplicationGroup", ReplicationGroupId="story", FinalSnapshotIdentifier="last")
refused("InvalidReplicationGroupState", 400, "", "TestFailover", ReplicationGroupId="story", NodeGroupId="0001")
wait("replication_group_deleted")
whole("last")
call("Unsubscribe", sns, SubscriptionArn=subscription)
call("DeleteTopic", sns, TopicArn=topic)
call("DeleteSnapshot", SnapshotName="last")
call("DeleteSnapshot", SnapshotName="snap")
call("DeleteCacheSubnetGroup", CacheSubnetGroupName="subnets")
call("DeleteCacheParameterGroup", CacheParameterGroupName="params")
print(f"{len(used)} operations, {len(wrong)} wrong")
for w in wrong:
    print(w)
sys.exit(bool(wrong))

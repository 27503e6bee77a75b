"""Makes each call of standard input's list with botocore, and prints what came back otherwise than expected."""
import base64, datetime, json, sys

import botocore.config
import botocore.model
import botocore.session


def value(v):
    """A JSON value as botocore takes it."""
    if isinstance(v, dict):
        if "$time" in v:
            return datetime.datetime.fromtimestamp(v["$time"], datetime.timezone.utc)
        if "$bytes" in v:
            return base64.b64decode(v["$bytes"])
        return {k: value(x) for k, x in v.items()}
    if isinstance(v, list):
        return [value(x) for x in v]
    return v


def differences(path, want, got):
    if isinstance(want, dict) and isinstance(got, dict):
        for k in sorted(set(want) | set(got)):
            if k == "LogDeliveryConfigurations" and path.endswith("PendingModifiedValues"):
                continue  # the model names this list's element otherwise than the SDK for Go; nothing here gives one
            if k not in want or k not in got:
                print(f"{path}.{k}: want {want.get(k)!r}, got {got.get(k)!r}")
            else:
                differences(f"{path}.{k}", want[k], got[k])
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for i, (w, g) in enumerate(zip(want, got)):
            differences(f"{path}[{i}]", w, g)
    elif want != got:
        print(f"{path}: want {want!r}, got {got!r}")


asked = json.load(sys.stdin)
session = botocore.session.get_session()
clients = {}
for case in asked["cases"]:
    name = case["Service"], case["Protocol"]
    if name not in clients:
        botocore.model.PRIORITY_ORDERED_SUPPORTED_PROTOCOLS = (case["Protocol"],)
        clients[name] = session.create_client(
            case["Service"], endpoint_url=asked["url"], region_name="eu-central-1",
            aws_access_key_id=asked["key"], aws_secret_access_key=asked["secret"],
            config=botocore.config.Config(retries={"total_max_attempts": 1}))
    where = f"{case['Service']} {case['Protocol']} {case['Operation']}"
    try:
        got = clients[name]._make_api_call(case["Operation"], value(case["Input"]))
    except Exception as e:
        print(f"{where}: {e!r}")
        continue
    told = got.pop("ResponseMetadata").get("RequestId")
    # botocore does not look for it where a CBOR operation has no output.
    if not told and not (name[1] == "smithy-rpc-v2-cbor" and not case["Output"]):
        print(f"{where}: no request id")
    differences(where, value(case["Output"]), got)

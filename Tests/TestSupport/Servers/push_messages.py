"""The messages of push.v1 as classes of Google's protobuf, by full name."""

from google.protobuf import descriptor_pb2, message_factory

STRING, BYTES, MESSAGE = 9, 12, 11
MESSAGES = {
    "LabelPair": [("name", 1, STRING), ("value", 2, STRING)],
    "RawSample": [("raw_profile", 1, BYTES), ("ID", 2, STRING)],
    "RawProfileSeries": [("labels", 1, "LabelPair"), ("samples", 2, "RawSample")],
    "PushRequest": [("series", 1, "RawProfileSeries")],
    "PushResponse": [],
}


def classes():
    file = descriptor_pb2.FileDescriptorProto(name="push.proto", package="push.v1", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            repeated = kind in MESSAGES
            added = message.field.add(
                name=field, number=number, label=3 if repeated else 1, type=MESSAGE if repeated else kind)
            if repeated:
                added.type_name = ".push.v1." + kind
    return message_factory.GetMessages([file])

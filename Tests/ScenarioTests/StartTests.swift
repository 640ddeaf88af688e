import Testing

@Suite("Starting and stopping") struct StartTests {}

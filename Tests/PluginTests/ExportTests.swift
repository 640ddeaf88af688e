import Testing

@Suite("What the built plugins export") struct ExportTests {}

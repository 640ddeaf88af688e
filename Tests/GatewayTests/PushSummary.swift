@testable import ProfileAPI

extension DecodedPush {
    /// A text with one line for each series: `a=1,b=2 id:bytes id:bytes`.
    func summary(_ bytes: [UInt8]) -> String {
        series.map { series in
            let labels = series.labels.labels.map { "\($0.name)=\($0.value)" }.joined(separator: ",")
            let samples = series.samples.map { "\($0.id):\(String(decoding: bytes[$0.range], as: UTF8.self))" }
            return ([labels] + samples).joined(separator: " ")
        }.joined(separator: "\n")
    }
}

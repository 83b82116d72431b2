import SwiftUI

struct StatsOverlay: View {
    let stats: OverlayStats
    let inUse: String?

    var body: some View {
        VStack(alignment: .leading, spacing: 2) {
            Text("\(number(stats.fps)) FPS   sustained \(number(stats.sustainedFps))   dropped \(stats.dropped)").bold()
            Text("frame p50 \(number(stats.p50)) ms   p90 \(number(stats.p90)) ms")
            Text("detect \(number(stats.detect))   align \(number(stats.align))   network \(number(stats.network))   "
                + "paste \(number(stats.paste)) ms")
            Text("Core ML: " + (inUse ?? "no bundle in use"))
        }
        .font(.system(.footnote, design: .monospaced))
        .foregroundColor(.white)
        .padding(8)
        .frame(maxWidth: .infinity, alignment: .leading)
        .background(Color.black.opacity(0.6))
        .cornerRadius(8)
    }

    private func number(_ value: Double) -> String {
        value.isFinite ? String(format: "%.1f", value) : "-"
    }
}

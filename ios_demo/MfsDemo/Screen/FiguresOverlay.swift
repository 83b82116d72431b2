import SwiftUI

struct FiguresOverlay: View {
    let figures: OverlayFigures
    let inUse: String?

    var body: some View {
        VStack(alignment: .leading, spacing: 2) {
            Text("\(number(figures.fps)) FPS   sustained \(number(figures.sustainedFps))   dropped \(figures.dropped)").bold()
            Text("frame p50 \(number(figures.p50)) ms   p90 \(number(figures.p90)) ms")
            Text("detect \(number(figures.detect))   align \(number(figures.align))   network \(number(figures.network))   "
                + "paste \(number(figures.paste)) ms")
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

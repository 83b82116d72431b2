import SwiftUI
import UIKit

/// What the screen shows while a Mac benches; the app ends with the bench.
struct BenchCommandView: View {
    let command: BenchCommand

    var body: some View {
        VStack(spacing: 12) {
            ProgressView()
            Text("Bench of \(command.bundle)")
        }
        .task {
            UIApplication.shared.isIdleTimerDisabled = true  // a dimmed screen slows the phone
            exit(await command.run())
        }
    }
}

import SwiftUI
import UIKit

/// Times the selected bundle, checks it against its reference tensors, and writes the report into Documents/reports.
struct BenchView: View {
    let bundle: BundleFolder?
    let computeUnits: ComputeUnits
    @State private var sustainedSeconds = 60.0
    @State private var isRunning = false
    @State private var progress = ""
    @State private var outcome: BenchOutcome?
    @State private var problem: String?

    var body: some View {
        NavigationStack {
            Form {
                Section("What") {
                    Text(bundle?.name ?? "no bundle")
                    Text(computeUnits.rawValue)
                    Text(bundle?.reference == nil ? "no reference folder: outputs are not checked" : "with reference tensors")
                    Picker("Sustained run", selection: $sustainedSeconds) {
                        Text("none").tag(0.0)
                        Text("1 minute").tag(60.0)
                        Text("10 minutes").tag(600.0)
                    }
                    .disabled(isRunning)
                }
                Section {
                    Button(isRunning ? progress : "Run") { run() }.disabled(isRunning || bundle == nil)
                }
                if let problem = problem {
                    Section("Failed") { Text(problem).foregroundColor(.red) }
                }
                if let outcome = outcome {
                    Section(outcome.complaints.isEmpty ? "Report" : "Outside the recipe's tolerance") {
                        ForEach(outcome.complaints, id: \.self) { Text($0).foregroundColor(.red) }
                        ShareLink(item: outcome.file)
                        Text(outcome.json).font(.system(.caption2, design: .monospaced)).textSelection(.enabled)
                    }
                }
            }
            .navigationTitle("Bench")
            .interactiveDismissDisabled(isRunning)
        }
        .onChange(of: isRunning) { running in
            UIApplication.shared.isIdleTimerDisabled = running  // a dimmed screen slows the phone
        }
    }

    private func run() {
        guard let bundle = bundle else { return }
        let options = BenchOptions(bundle: bundle, computeUnits: computeUnits, sustainedSeconds: sustainedSeconds)
        isRunning = true
        outcome = nil
        problem = nil
        progress = "compiling"
        Task {
            do {
                outcome = try await BenchRun.run(options) { stage in
                    Task { @MainActor in progress = stage }
                }
            } catch {
                problem = error.localizedDescription
            }
            isRunning = false
        }
    }
}
